import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;

/**
 * Compiles and runs one test at a time for the Python side, which started this JVM and listens on a loopback port.
 *
 * <p>A message is an int (how many fields) and then, for each field, an int (its length) and its bytes; text is UTF-8.
 * {@code compile, release, (file, source)*} is answered by {@code ok, (class, bytes)*} or {@code error, message};
 * {@code adapter, class, (class, bytes)*} by an empty message;
 * {@code run, adapter, class, method, milliseconds, (class, bytes)*} by {@code status, reason, lines, dirty, nanos}.
 * Only the adapters are kept from one message to the next, so a new JVM can replace a killed one at any time.
 */
public final class ExecutionService {
    private static final int MAX_TEXT = 500;
    private static final int MAX_CAUSES = 20;

    private final DataInputStream in;
    private final DataOutputStream out;
    private final MemoryCompiler compiler;
    private final TestRunner runner;

    private ExecutionService(Socket socket, MemoryCompiler compiler, TestRunner runner) throws IOException {
        this.in = new DataInputStream(new BufferedInputStream(socket.getInputStream(), 1 << 16));
        this.out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream(), 1 << 16));
        this.compiler = compiler;
        this.runner = runner;
    }

    /** Arguments: port, token, scratch folder; the first message names folders and jars. */
    public static void main(String[] args) throws Exception {
        Socket socket = new Socket(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0]));
        socket.setTcpNoDelay(true);
        try {
            DataInputStream hello = new DataInputStream(socket.getInputStream());
            DataOutputStream reply = new DataOutputStream(socket.getOutputStream());
            reply.writeUTF(args[1]);
            List<byte[]> setup = read(hello);
            List<Path> folders = paths(setup.get(0));
            List<Path> jars = paths(setup.get(1));
            MemoryCompiler compiler = new MemoryCompiler(folders, jars);
            TestRunner runner = new TestRunner(folders, jars);
            write(reply, List.of(bytes(String.valueOf(Guard.install(Path.of(args[2]))))));
            new ExecutionService(socket, compiler, runner).serve();
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(70);
        }
    }

    private void serve() throws IOException, ReflectiveOperationException {
        PrintStream nowhere = new PrintStream(OutputStream.nullOutputStream());
        Properties properties = (Properties) System.getProperties().clone();
        Locale locale = Locale.getDefault();
        TimeZone zone = TimeZone.getDefault();
        while (true) {
            // Undo what the last test may have changed in the JVM.
            System.setOut(nowhere);
            System.setErr(nowhere);
            System.setIn(new ByteArrayInputStream(new byte[0]));
            System.setProperties((Properties) properties.clone());
            Locale.setDefault(locale);
            TimeZone.setDefault(zone);
            List<byte[]> request = read(in);
            switch (text(request.get(0))) {
                case "compile":
                    write(out, compile(request));
                    break;
                case "adapter":
                    runner.addAdapter(text(request.get(1)), classes(request, 2));
                    write(out, List.of());
                    break;
                default:
                    write(out, run(request));
            }
        }
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
                bytes(result.status), bytes(result.reason), bytes(result.lines), bytes(String.valueOf(result.dirty)),
                bytes(String.valueOf(System.nanoTime() - start)));
    }

    private static Map<String, byte[]> classes(List<byte[]> request, int first) {
        Map<String, byte[]> classes = new LinkedHashMap<>();
        for (int i = first; i + 1 < request.size(); i += 2) {
            classes.put(text(request.get(i)), request.get(i + 1));
        }
        return classes;
    }

    /** The error and its message, on one line. */
    static String describe(Throwable error) {
        return shorten(String.valueOf(error));
    }

    /** Line numbers of {@code owner}'s source file in the stack traces of an error and of its causes. */
    static String lines(Throwable error, Class<?> owner) {
        String outermost = owner.getName().replaceAll("\\$.*", "");
        StringBuilder lines = new StringBuilder();
        Throwable current = error;
        for (int depth = 0; current != null && depth < MAX_CAUSES; depth++, current = current.getCause()) {
            for (StackTraceElement frame : current.getStackTrace()) {
                if (frame.getClassName().equals(outermost) || frame.getClassName().startsWith(outermost + "$")) {
                    lines.append(frame.getLineNumber()).append(' ');
                }
            }
        }
        return lines.toString();
    }

    private static String shorten(String text) {
        String line = text.strip().replaceAll("\\s+", " ");
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

    private static List<byte[]> read(DataInputStream in) throws IOException {
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

    private static void write(DataOutputStream out, List<byte[]> fields) throws IOException {
        out.writeInt(fields.size());
        for (byte[] field : fields) {
            out.writeInt(field.length);
            out.write(field);
        }
        out.flush();
    }
}
