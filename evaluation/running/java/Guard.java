import java.io.File;
import java.io.FileDescriptor;
import java.io.IOException;
import java.nio.file.Path;
import java.security.Permission;

/**
 * Makes a test fail with an exception where it would end the JVM, start a process or write outside the scratch folder.
 *
 * <p>Java 24 removed security managers. There {@link #install} returns false, a test that ends the JVM costs a restart,
 * and only the operating system protects the files.
 */
@SuppressWarnings({"deprecation", "removal"})
final class Guard extends SecurityManager {
    private static boolean active;

    private final String scratch;
    private final Thread service = Thread.currentThread();

    private Guard(Path scratch) throws IOException {
        this.scratch = scratch.toRealPath() + File.separator;
    }

    static boolean install(Path scratch) throws IOException {
        try {
            System.setSecurityManager(new Guard(scratch));
            active = true;
        } catch (UnsupportedOperationException tooNew) {
            active = false;
        }
        return active;
    }

    static boolean active() {
        return active;
    }

    @Override
    public void checkExit(int status) {
        if (Thread.currentThread() != service) {
            throw new SecurityException("a test may not end the JVM (exit code " + status + ")");
        }
    }

    @Override
    public void checkExec(String command) {
        throw new SecurityException("a test may not start a process (" + command + ")");
    }

    @Override
    public void checkRead(FileDescriptor descriptor) {
        checkDescriptor(descriptor);
    }

    @Override
    public void checkWrite(FileDescriptor descriptor) {
        checkDescriptor(descriptor);
    }

    @Override
    public void checkWrite(String file) {
        checkInside(file);
    }

    @Override
    public void checkDelete(String file) {
        checkInside(file);
    }

    @Override
    public void checkPermission(Permission permission) {
        if (permission.getName().equals("setSecurityManager")) {
            throw new SecurityException("a test may not replace the security manager");
        }
    }

    @Override
    public void checkPermission(Permission permission, Object context) {
        checkPermission(permission);
    }

    private void checkDescriptor(FileDescriptor descriptor) {
        boolean standard = descriptor == FileDescriptor.in || descriptor == FileDescriptor.out || descriptor == FileDescriptor.err;
        if (standard && Thread.currentThread() != service) {
            throw new SecurityException("a test may not use the JVM's own channels");
        }
    }

    private void checkInside(String file) {
        if (Thread.currentThread() == service) {
            return; // javac also asks whether it could write a jar
        }
        try {
            String path = new File(file).getCanonicalPath() + File.separator;
            if (!path.startsWith(scratch) && !path.equals("/dev/null/")) {
                throw new SecurityException("a test may not write outside its scratch folder (" + file + ")");
            }
        } catch (IOException error) {
            throw new SecurityException(error);
        }
    }
}
