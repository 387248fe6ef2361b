import java.lang.reflect.Field;
import java.util.Set;

/** Fixes the order in which {@code Set.of} and {@code Map.of} are walked, which the JDK draws anew for each JVM. */
final class HashSeed {
    private HashSeed() {
    }

    /** Whether the seed could be set: not before JDK 12, where sets that exist already depend on it. */
    static boolean set(long seed) {
        try {
            Class<?> collections = Set.of().getClass().getNestHost();
            Field salt = collections.getDeclaredField("SALT32L");
            Field reverse = collections.getDeclaredField("REVERSE");
            Class<?> type = Class.forName("sun.misc.Unsafe");
            Field instance = type.getDeclaredField("theUnsafe");
            instance.setAccessible(true);
            Object unsafe = instance.get(null);
            for (Field field : new Field[] {salt, reverse}) {
                Object base = type.getMethod("staticFieldBase", Field.class).invoke(unsafe, field);
                Object offset = type.getMethod("staticFieldOffset", Field.class).invoke(unsafe, field);
                if (field == salt) {
                    type.getMethod("putLong", Object.class, long.class, long.class).invoke(unsafe, base, offset, seed);
                } else {
                    type.getMethod("putBoolean", Object.class, long.class, boolean.class)
                            .invoke(unsafe, base, offset, (seed & 1) == 0);
                }
            }
            return true;
        } catch (ReflectiveOperationException | RuntimeException | LinkageError impossible) {
            return false;
        }
    }
}
