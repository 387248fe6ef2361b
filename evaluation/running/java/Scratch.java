import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Comparator;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

/** The working folder of the tests: a copy of the project's other files, put right before each run. */
final class Scratch {
    private static final LinkOption NO_LINKS = LinkOption.NOFOLLOW_LINKS;

    private final Path origin;
    private final Path work;
    private final Map<Path, String> wanted;

    Scratch(Path origin, Path work) throws IOException {
        this.origin = origin;
        this.work = work;
        this.wanted = list(origin);
        restore();
    }

    /** Undoes what a test created, changed or deleted. */
    void restore() throws IOException {
        Map<Path, String> present = list(work);
        if (present.equals(wanted)) {
            return;
        }
        TreeMap<Path, String> unwanted = new TreeMap<>(Comparator.reverseOrder()); // what is in a folder goes before it
        present.forEach((path, kind) -> {
            if (!kind.equals(wanted.get(path))) {
                unwanted.put(path, kind);
            }
        });
        for (Path path : unwanted.keySet()) {
            boolean folderStays = "folder".equals(present.get(path)) && "folder".equals(wanted.get(path));
            if (!folderStays) {
                Files.delete(work.resolve(path));
            }
        }
        for (Map.Entry<Path, String> entry : wanted.entrySet()) {
            if (Objects.equals(present.get(entry.getKey()), entry.getValue())) {
                continue;
            }
            Path target = work.resolve(entry.getKey());
            if (entry.getValue().equals("folder")) {
                Files.createDirectories(target);
            } else {
                Files.copy(origin.resolve(entry.getKey()), target, StandardCopyOption.COPY_ATTRIBUTES);
            }
        }
    }

    /** Everything below a folder, a folder before what it holds; a file by its size, time and whether it is a link. */
    private static Map<Path, String> list(Path root) throws IOException {
        Map<Path, String> found = new TreeMap<>();
        Files.walkFileTree(root, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path folder, BasicFileAttributes attributes) {
                if (!Files.isWritable(folder)) { // a test took our right to change it
                    folder.toFile().setWritable(true);
                }
                if (!folder.equals(root)) {
                    found.put(root.relativize(folder), "folder");
                }
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                found.put(root.relativize(file), attributes.isRegularFile()
                        ? attributes.size() + " bytes of " + attributes.lastModifiedTime() : "link");
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFileFailed(Path file, IOException error) throws IOException {
                boolean opened = Files.isDirectory(file, NO_LINKS) && !Files.isReadable(file)
                        && file.toFile().setExecutable(true) && file.toFile().setReadable(true);
                if (!opened) {
                    throw error;
                }
                Files.walkFileTree(file, this);
                return FileVisitResult.CONTINUE;
            }
        });
        return found;
    }
}
