import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.security.CodeSource;
import java.security.ProtectionDomain;
import java.security.cert.Certificate;
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

    private final URL[] folders;
    private final URLClassLoader libraries;
    private final Map<String, BiFunction<Class<?>, String, Map.Entry<String, List<Throwable>>>> adapters = new HashMap<>();

    TestRunner(List<Path> folders, List<Path> jars) throws MalformedURLException {
        this.folders = urls(folders);
        this.libraries = new URLClassLoader(urls(jars), ClassLoader.getPlatformClassLoader());
        this.libraries.setDefaultAssertionStatus(true);
    }

    /** status: passed, failed, skipped, missing or timeout; lines: in the test's file; dirty: threads are still running. */
    static final class Result {
        volatile String status = "timeout";
        volatile String reason = "";
        volatile String lines = "";
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
        try (URLClassLoader loader = new TaskLoader(folders, libraries, classes)) {
            Thread thread = new Thread(group, () -> attempt(adapter, testClass, method, loader, started), "test", STACK_BYTES);
            thread.setDaemon(true);
            thread.setContextClassLoader(loader);
            thread.start();
            thread.join(milliseconds);
            if (thread.isAlive()) { // what it may still write goes into a result that nobody reads
                result = new Result();
            }
            result.dirty = !stop(group);
        } catch (InterruptedException | java.io.IOException error) {
            result.dirty = true;
        }
        if (!Guard.active()) {
            ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly);
        }
        return result;
    }

    private void attempt(String adapter, String testClass, String method, ClassLoader loader, Result result) {
        String status = "failed";
        String reason = "";
        String lines = "";
        try {
            Class<?> owner = Class.forName(testClass, false, loader);
            var outcome = adapters.get(adapter).apply(owner, method);
            status = outcome.getKey();
            for (Throwable error : outcome.getValue()) {
                reason += reason.isEmpty() ? ExecutionService.describe(error) : "";
                lines += ExecutionService.lines(error, owner);
            }
        } catch (Throwable error) {
            status = "failed";
            reason = error.getClass().getName();
        }
        result.reason = reason;
        result.lines = lines;
        result.status = status; // last, since the waiting thread reads it first
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
        private final ProtectionDomain domain;

        TaskLoader(URL[] folders, ClassLoader parent, Map<String, byte[]> classes) {
            super(folders, parent);
            this.classes = classes;
            URL origin = folders.length == 0 ? null : folders[folders.length - 1];
            this.domain = new ProtectionDomain(new CodeSource(origin, (Certificate[]) null), null, this, null);
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
            return code == null ? super.findClass(name) : defineClass(name, code, 0, code.length, domain);
        }

        @Override
        public URL getResource(String name) {
            URL own = findResource(name);
            return own != null ? own : super.getResource(name);
        }
    }
}
