import java.io.ByteArrayInputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.HttpURLConnection;
import java.net.ProxySelector;
import java.net.ResponseCache;
import java.security.Security;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.Set;
import java.util.TimeZone;
import java.util.concurrent.ForkJoinPool;
import java.util.function.Supplier;
import java.util.logging.Logger;

/** What a test can change in the JDK for all that runs after it: put back where that is possible, else noticed. */
final class JdkState {
    private static final double FULL = 0.6;

    private final Properties properties = (Properties) System.getProperties().clone();
    private final Locale locale = Locale.getDefault();
    private final Locale shown = Locale.getDefault(Locale.Category.DISPLAY);
    private final Locale format = Locale.getDefault(Locale.Category.FORMAT);
    private final TimeZone zone = TimeZone.getDefault();
    private final List<Supplier<Object>> readings = List.of(
            Authenticator::getDefault, CookieHandler::getDefault, ProxySelector::getDefault, ResponseCache::getDefault,
            HttpURLConnection::getFollowRedirects,
            () -> Arrays.asList(Security.getProviders()),
            () -> Logger.getLogger("").getLevel(),
            () -> Arrays.asList(Logger.getLogger("").getHandlers()),
            () -> Thread.currentThread().getThreadGroup().getMaxPriority());
    private final List<Object> before;
    private final Set<Thread> threads;

    JdkState() {
        putBack();
        before = read();
        ForkJoinPool.commonPool(); // its threads start when they are needed
        threads = new HashSet<>(listThreads());
    }

    /** Puts back what can be put back. */
    void putBack() {
        System.setOut(new PrintStream(OutputStream.nullOutputStream())); // anew, since one that was closed remembers it
        System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        System.setIn(new ByteArrayInputStream(new byte[0]));
        System.setProperties((Properties) properties.clone());
        Locale.setDefault(locale);
        Locale.setDefault(Locale.Category.DISPLAY, shown);
        Locale.setDefault(Locale.Category.FORMAT, format);
        TimeZone.setDefault((TimeZone) zone.clone());
        Thread.setDefaultUncaughtExceptionHandler(null);
        Thread.interrupted();
    }

    /** Whether something else has changed, a thread is left, or little memory is. */
    boolean isTainted() {
        Runtime runtime = Runtime.getRuntime();
        if (runtime.totalMemory() - runtime.freeMemory() > FULL * runtime.maxMemory()) {
            System.gc();
            if (runtime.totalMemory() - runtime.freeMemory() > FULL * runtime.maxMemory()) {
                return true;
            }
        }
        return !threads.containsAll(listThreads()) || !before.equals(read());
    }

    private List<Object> read() {
        List<Object> values = new ArrayList<>();
        readings.forEach(reading -> values.add(reading.get()));
        return values;
    }

    private static List<Thread> listThreads() {
        ThreadGroup root = Thread.currentThread().getThreadGroup();
        while (root.getParent() != null) {
            root = root.getParent();
        }
        Thread[] found = new Thread[root.activeCount() + 64];
        int count = root.enumerate(found, true);
        return Arrays.asList(found).subList(0, count);
    }
}
