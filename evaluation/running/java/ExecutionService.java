import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Compiles and runs one test at a time for the Python side, which started this JVM and holds the other end of a socket
 * that is its standard input and output.
 *
 * <p>A message is an int (how many fields) and then, for each field, an int (its length) and its bytes; text is UTF-8.
 * The first field is a secret, which the answer repeats. The next ones are
 * {@code compile, release, (file, source)*}, answered by {@code ok, (class, bytes)*} or {@code error, message};
 * {@code adapter, class, (class, bytes)*}, answered by nothing more;
 * {@code run, adapter, class, method, milliseconds, (class, bytes)*}, answered by {@code status, reason, lines, asserted,
 * raiser, error, places, resource, dirty, nanos}.
 * Only the adapters are kept from one message to the next, so a new JVM can replace a killed one at any time.
 */
public final class ExecutionService {
    private static final int MAX_TEXT = 500;
    private static final long PARK_NANOSECONDS = 5_000_000;

    private final DataInputStream in = new DataInputStream(
            new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
    private final DataOutputStream out = new DataOutputStream(
            new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
    private MemoryCompiler compiler;
    private TestRunner runner;

    /** Arguments: scratch folder, what it holds before each run, seed of the order of Set.of. */
    public static void main(String[] args) {
        try {
            boolean seeded = HashSeed.set(Long.parseLong(args[2]));
            new ExecutionService().serve(Path.of(args[0]), Path.of(args[1]), seeded);
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(70);
        }
    }

    /** The first message names folders and jars; the answer says whether guard, hash seed and timed waits work. */
    private void serve(Path work, Path origin, boolean seeded) throws IOException, ReflectiveOperationException {
        List<byte[]> setup = read();
        List<Path> folders = paths(setup.get(1));
        List<Path> jars = paths(setup.get(2));
        compiler = new MemoryCompiler(folders, jars);
        Scratch scratch = new Scratch(origin, work);
        boolean guarded = Guard.install(work);
        JdkState state = new JdkState();
        runner = new TestRunner(folders, jars, state, scratch);
        write(setup.get(0), List.of(truth(guarded), truth(seeded), truth(waitsWork())));
        while (true) {
            state.putBack();
            List<byte[]> request = read();
            byte[] secret = request.remove(0);
            switch (text(request.get(0))) {
                case "compile":
                    write(secret, compile(request));
                    break;
                case "adapter":
                    runner.addAdapter(text(request.get(1)), classes(request, 2));
                    write(secret, List.of());
                    break;
                default:
                    write(secret, run(request));
            }
        }
    }

    /** A library that shifts the clock may make timed waits return at once. */
    private static boolean waitsWork() {
        long start = System.nanoTime();
        java.util.concurrent.locks.LockSupport.parkNanos(PARK_NANOSECONDS);
        return System.nanoTime() - start >= PARK_NANOSECONDS / 2;
    }

    private List<byte[]> compile(List<byte[]> request) {
        Map<String, String> sources = new LinkedHashMap<>();
        for (int i = 2; i + 1 < request.size(); i += 2) {
            sources.put(text(request.get(i)), text(request.get(i + 1)));
        }
        MemoryCompiler.Result result = compiler.compile(text(request.get(1)), sources);
        List<byte[]> reply = new ArrayList<>();
        if (result.error != null) {
            reply.add(bytes("error"));
            reply.add(bytes(shorten(result.error)));
        } else {
            reply.add(bytes("ok"));
            result.classes.forEach((name, code) -> {
                reply.add(bytes(name));
                reply.add(code);
            });
        }
        return reply;
    }

    private List<byte[]> run(List<byte[]> request) {
        long start = System.nanoTime();
        TestRunner.Result result = runner.run(
                text(request.get(1)), text(request.get(2)), text(request.get(3)),
                Long.parseLong(text(request.get(4))), classes(request, 5));
        return List.of(
                bytes(result.status), bytes(result.reason), bytes(result.lines), bytes(result.asserted),
                bytes(result.raiser), bytes(result.error), bytes(result.places), bytes(result.resource),
                truth(result.dirty), bytes(String.valueOf(System.nanoTime() - start)));
    }

    private static Map<String, byte[]> classes(List<byte[]> request, int first) {
        Map<String, byte[]> classes = new LinkedHashMap<>();
        for (int i = first; i + 1 < request.size(); i += 2) {
            classes.put(text(request.get(i)), request.get(i + 1));
        }
        return classes;
    }

    /** Text on one line, of bounded length. */
    static String shorten(String text) {
        String start = text.length() <= 4 * MAX_TEXT ? text : text.substring(0, 4 * MAX_TEXT);
        String line = start.strip().replaceAll("\\s+", " ");
        return line.length() <= MAX_TEXT ? line : line.substring(0, MAX_TEXT) + "...";
    }

    private static List<Path> paths(byte[] field) {
        List<Path> paths = new ArrayList<>();
        for (String path : text(field).split("\n")) {
            if (!path.isEmpty()) {
                paths.add(Path.of(path));
            }
        }
        return paths;
    }

    private static String text(byte[] field) {
        return new String(field, StandardCharsets.UTF_8);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] truth(boolean value) {
        return bytes(String.valueOf(value));
    }

    private List<byte[]> read() throws IOException {
        int count;
        try {
            count = in.readInt();
        } catch (IOException closed) {
            Runtime.getRuntime().halt(0); // the Python side has ended
            throw closed;
        }
        List<byte[]> fields = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            byte[] field = new byte[in.readInt()];
            in.readFully(field);
            fields.add(field);
        }
        return fields;
    }

    private void write(byte[] secret, List<byte[]> fields) throws IOException {
        out.writeInt(fields.size() + 1);
        out.writeInt(secret.length);
        out.write(secret);
        for (byte[] field : fields) {
            out.writeInt(field.length);
            out.write(field);
        }
        out.flush();
    }
}
