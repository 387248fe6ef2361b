import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.Writer;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.StandardLocation;
import javax.tools.ToolProvider;

/** Runs javac in memory. The file manager is kept, so that jars are opened once and not for every compilation. */
final class MemoryCompiler {
    private static final List<String> OPTIONS = List.of("-proc:none", "-nowarn", "-Xlint:none", "-g", "-implicit:none");

    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    private final StandardJavaFileManager files;

    MemoryCompiler(List<Path> folders, List<Path> jars) throws IOException {
        files = compiler.getStandardFileManager(null, Locale.ENGLISH, StandardCharsets.UTF_8);
        List<Path> classPath = new ArrayList<>(folders);
        classPath.addAll(jars);
        files.setLocationFromPaths(StandardLocation.CLASS_PATH, classPath);
        files.setLocationFromPaths(StandardLocation.SOURCE_PATH, Collections.emptyList());
    }

    /** Classes by binary name, or the first error. */
    static final class Result {
        final Map<String, byte[]> classes = new LinkedHashMap<>();
        String error;
    }

    /** Compiles for a Java release and its library; an empty release means the JDK's own. */
    Result compile(String release, Map<String, String> sources) {
        List<String> options = new ArrayList<>(OPTIONS);
        if (!release.isEmpty()) {
            options.addAll(List.of("--release", release));
        }
        Result result = new Result();
        Map<String, ByteArrayOutputStream> written = new LinkedHashMap<>();
        DiagnosticCollector<JavaFileObject> diagnostics = new DiagnosticCollector<>();
        List<JavaFileObject> units = new ArrayList<>();
        sources.forEach((name, text) -> units.add(new Source(name, text)));
        try {
            boolean done = compiler.getTask(
                    Writer.nullWriter(), new Memory(files, written), diagnostics, options, null, units).call();
            result.error = done ? null : firstError(diagnostics);
        } catch (RuntimeException | Error error) { // javac gives up on code that is nested too deep, and has bugs
            result.error = "the compiler failed: " + error;
        }
        if (result.error == null) {
            written.forEach((name, stream) -> result.classes.put(name, stream.toByteArray()));
        }
        return result;
    }

    private static String firstError(DiagnosticCollector<JavaFileObject> diagnostics) {
        for (Diagnostic<?> item : diagnostics.getDiagnostics()) {
            if (item.getKind() == Diagnostic.Kind.ERROR) {
                return "line " + item.getLineNumber() + ": " + item.getMessage(Locale.ENGLISH);
            }
        }
        return "the compiler failed";
    }

    private static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String name, String text) {
            super(URI.create("memory:///" + name), Kind.SOURCE);
            this.text = text;
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    private static final class Memory extends ForwardingJavaFileManager<StandardJavaFileManager> {
        private final Map<String, ByteArrayOutputStream> written;

        Memory(StandardJavaFileManager files, Map<String, ByteArrayOutputStream> written) {
            super(files);
            this.written = written;
        }

        @Override
        public JavaFileObject getJavaFileForOutput(
                JavaFileManager.Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            return new SimpleJavaFileObject(URI.create("memory:///" + name.replace('.', '/') + ".class"), kind) {
                @Override
                public OutputStream openOutputStream() {
                    ByteArrayOutputStream stream = new ByteArrayOutputStream();
                    written.put(name, stream);
                    return stream;
                }
            };
        }
    }
}
