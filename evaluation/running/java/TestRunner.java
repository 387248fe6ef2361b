import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.security.CodeSigner;
import java.security.CodeSource;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;

/**
 * Runs one test method in a thread and a class loader of its own.
 *
 * <p>The jars are loaded once. The project's own classes are loaded again for every run, so that no static state passes
 * from one run to the next, and all classes see a class that has changed.
 */
final class TestRunner {
    private static final long STACK_BYTES = 4L << 20;
    private static final long STOP_MILLISECONDS = 200;
    private static final int MAX_CAUSES = 20;
    /** The class that the statements which mark a place in a test call. */
    private static final String PLACES = "judged$.Place";

    private final URL[] folders;
    private final URLClassLoader libraries;
    private final JdkState state;
    private final Scratch scratch;
    private final Map<String, BiFunction<Class<?>, String, Map.Entry<String, List<Throwable>>>> adapters = new HashMap<>();

    TestRunner(List<Path> folders, List<Path> jars, JdkState state, Scratch scratch) throws MalformedURLException {
        this.folders = urls(folders);
        this.libraries = new URLClassLoader(urls(jars), ClassLoader.getPlatformClassLoader());
        this.libraries.setDefaultAssertionStatus(true);
        this.state = state;
        this.scratch = scratch;
    }

    /**
     * status: passed, failed, skipped, missing, broken or timeout; lines: in the test's file; asserted: those of
     * assertions that failed; raiser: the first class of the project in the stack of such an assertion; dirty: the test
     * left something behind in the JVM.
     */
    static final class Result {
        volatile String status = "timeout";
        volatile String reason = "";
        volatile String lines = "";
        volatile String asserted = "";
        volatile String raiser = "";
        volatile String error = "";
        volatile String places = "";
        volatile String resource = "";
        boolean dirty;
    }

    /** Takes the class {@code name} as an adapter. It sees the jars, but not this service. */
    @SuppressWarnings("unchecked")
    void addAdapter(String name, Map<String, byte[]> classes) throws ReflectiveOperationException {
        ClassLoader loader = new TaskLoader(new URL[0], libraries, classes);
        adapters.put(name, (BiFunction<Class<?>, String, Map.Entry<String, List<Throwable>>>)
                loader.loadClass(name).getDeclaredConstructor().newInstance());
    }

    Result run(String adapter, String testClass, String method, long milliseconds, Map<String, byte[]> classes) {
        Result started = new Result();
        Result result = started;
        ThreadGroup group = new ThreadGroup("test");
        boolean stopped = false;
        try (TaskLoader loader = new TaskLoader(folders, libraries, classes)) {
            Thread thread = new Thread(group, () -> attempt(adapter, testClass, method, loader, started), "test", STACK_BYTES);
            thread.setDaemon(true);
            thread.setContextClassLoader(loader);
            thread.start();
            thread.join(milliseconds);
            if (thread.isAlive()) { // what it may still write goes into a result that nobody reads
                result = new Result();
            }
            stopped = stop(group);
            scratch.restore();
            result.places = loader.places;
            result.resource = loader.missing;
        } catch (InterruptedException | java.io.IOException error) {
            stopped = false; // what it did to the service or to the files cannot be undone here
        }
        if (!Guard.active()) {
            ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly);
        }
        state.putBack();
        result.dirty = result.dirty || !stopped || state.isTainted();
        return result;
    }

    private void attempt(String adapter, String testClass, String method, TaskLoader loader, Result result) {
        String status = "broken";
        try {
            Class<?> owner = Class.forName(testClass, true, loader);
            var outcome = adapters.get(adapter).apply(owner, method);
            status = outcome.getKey();
            String declares = findDeclaring(owner, method).getName().replaceAll("\\$.*", "");
            for (Throwable error : outcome.getValue()) {
                describe(error, declares, loader, result);
            }
        } catch (Throwable error) {
            result.reason = explain(error);
            result.error = error.getClass().getSimpleName();
        }
        loader.readPlaces();
        result.status = status; // last, since the waiting thread reads it first
    }

    /** Adds what a failure says: its reason if it is the first, and where in the test's file it passed. */
    private static void describe(Throwable error, String outermost, TaskLoader loader, Result result) {
        if (result.reason.isEmpty()) {
            result.reason = explain(error);
            result.error = error.getClass().getSimpleName();
        }
        Throwable current = error;
        for (int depth = 0; current != null && depth < MAX_CAUSES; depth++, current = current.getCause()) {
            // What ran out of memory or stack may have left a class of the JDK half initialised.
            result.dirty |= current instanceof VirtualMachineError;
            StringBuilder lines = new StringBuilder();
            String raiser = "";
            for (StackTraceElement frame : current.getStackTrace()) {
                String name = frame.getClassName();
                raiser = raiser.isEmpty() && loader.isLoaded(name) ? name : raiser;
                if (name.equals(outermost) || name.startsWith(outermost + "$")) {
                    lines.append(frame.getLineNumber()).append(' ');
                }
            }
            result.lines += lines;
            if (current instanceof AssertionError) {
                result.asserted += lines;
                result.raiser = result.raiser.isEmpty() ? raiser : result.raiser;
            }
        }
    }

    /** The class of which a test is, which may inherit it. */
    private static Class<?> findDeclaring(Class<?> owner, String method) {
        for (Class<?> current = owner; current != null; current = current.getSuperclass()) {
            for (java.lang.reflect.Method declared : current.getDeclaredMethods()) {
                if (declared.getName().equals(method)) {
                    return current;
                }
            }
        }
        return owner;
    }

    /** The error and its message; of a class that could not be initialised, why. */
    private static String explain(Throwable error) {
        Throwable cause = error;
        for (int depth = 0; cause.getCause() != null && depth < MAX_CAUSES; depth++) {
            cause = cause.getCause();
        }
        boolean told = cause == error || !(error instanceof LinkageError || error instanceof ReflectiveOperationException);
        return ExecutionService.shorten(told ? error.toString() : error.getClass().getSimpleName() + ": " + cause);
    }

    /** Whether all threads that the test started have ended. */
    private static boolean stop(ThreadGroup group) throws InterruptedException {
        Thread[] left = new Thread[16];
        long deadline = System.nanoTime() + STOP_MILLISECONDS * 1_000_000;
        while (true) {
            int count = group.enumerate(left, true);
            if (count == 0 || System.nanoTime() > deadline) {
                return count == 0;
            }
            group.interrupt();
            left[0].join(STOP_MILLISECONDS / 10);
        }
    }

    private static URL[] urls(List<Path> paths) throws MalformedURLException {
        URL[] urls = new URL[paths.size()];
        for (int i = 0; i < urls.length; i++) {
            urls[i] = paths.get(i).toUri().toURL();
        }
        return urls;
    }

    /** Given classes, then the project's folders, then the jars, as a jar may hold another version of the project. */
    private static final class TaskLoader extends URLClassLoader {
        private final Map<String, byte[]> classes;
        private volatile String missing = "";
        private volatile String places = "";

        TaskLoader(URL[] folders, ClassLoader parent, Map<String, byte[]> classes) {
            super(folders, parent);
            this.classes = classes;
            setDefaultAssertionStatus(true);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                Class<?> found = findLoadedClass(name);
                if (found == null && !name.startsWith("java.")) {
                    try {
                        found = findClass(name);
                    } catch (ClassNotFoundException elsewhere) {
                        found = null;
                    }
                }
                return found != null ? found : super.loadClass(name, resolve);
            }
        }

        @Override
        protected Class<?> findClass(String name) throws ClassNotFoundException {
            byte[] code = classes.get(name);
            return code == null ? super.findClass(name) : defineClass(name, code, 0, code.length, originOf(name));
        }

        /** The folder of the project that has a class or the one around it; null for a class of our own. */
        private CodeSource originOf(String name) {
            URL found = findResource(name.replaceAll("\\$.*", "").replace('.', '/') + ".class");
            for (URL folder : getURLs()) {
                if (found != null && found.toString().startsWith(folder.toString())) {
                    return new CodeSource(folder, (CodeSigner[]) null);
                }
            }
            return null;
        }

        @Override
        public URL getResource(String name) {
            URL own = findResource(name);
            URL found = own != null ? own : super.getResource(name);
            // Frameworks look for configuration that need not exist.
            if (found == null && !name.endsWith(".class") && !name.startsWith("META-INF/") && !name.contains(".properties")) {
                missing = name;
            }
            return found;
        }

        boolean isLoaded(String name) {
            return findLoadedClass(name) != null;
        }

        /** Notes the numbers of the places that were reached, where the test has been marked. */
        void readPlaces() {
            if (classes.containsKey(PLACES)) {
                try {
                    places = String.valueOf(loadClass(PLACES).getField("reached").get(null));
                } catch (ReflectiveOperationException | LinkageError error) {
                    places = "";
                }
            }
        }
    }
}
