import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.MemberReferenceTree;
import com.sun.source.tree.MethodInvocationTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.NewClassTree;
import com.sun.source.tree.Tree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreePath;
import com.sun.source.util.TreePathScanner;
import com.sun.source.util.Trees;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.lang.model.element.Element;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.type.TypeKind;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Prints the method that javac resolves each call to. A line holds, split by tabs: file and line of the call, class, name
 * and number of parameters of the method, file and line of its declaration (empty for a library's).
 *
 * <p>Arguments: the class path, and a file that lists all sources.
 */
public final class ResolveCalls {
    public static void main(String[] arguments) throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files = compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);
        // What does not compile for want of a jar must not keep javac from the rest.
        List<String> options = List.of("-proc:none", "-implicit:none", "-nowarn", "-cp", arguments[0], "-encoding", "UTF-8",
            "-XDshould-stop.ifError=FLOW", "-XDshould-stop.ifNoError=FLOW");
        JavacTask task = (JavacTask) compiler.getTask(new PrintWriter(Writer.nullWriter()), files, problem -> { }, options,
            null, files.getJavaFileObjectsFromStrings(Files.readAllLines(Path.of(arguments[1]))));
        List<CompilationUnitTree> units = new ArrayList<>();
        task.parse().forEach(units::add);
        task.analyze();
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        units.forEach(unit -> new CallPrinter(Trees.instance(task), out).scan(unit, null));
        out.flush();
    }

    private static final class CallPrinter extends TreePathScanner<Void, Void> {
        private final Trees trees;
        private final PrintStream out;

        CallPrinter(Trees trees, PrintStream out) {
            this.trees = trees;
            this.out = out;
        }

        private String place(CompilationUnitTree unit, Tree tree) {
            long start = trees.getSourcePositions().getStartPosition(unit, tree);
            return Path.of(unit.getSourceFile().toUri()) + "\t" + unit.getLineMap().getLineNumber(start);
        }

        private void print(Tree tree) {
            CompilationUnitTree unit = getCurrentPath().getCompilationUnit();
            Element found = trees.getElement(getCurrentPath());
            boolean written = trees.getSourcePositions().getEndPosition(unit, tree) >= 0;
            if (!written || !(found instanceof ExecutableElement) || found.asType().getKind() == TypeKind.ERROR) {
                return;
            }
            TreePath declared = trees.getPath(found);
            boolean ours = declared != null && declared.getLeaf() instanceof MethodTree;
            out.println(String.join("\t", place(unit, tree), found.getEnclosingElement().toString(),
                found.getSimpleName().toString(), "" + ((ExecutableElement) found).getParameters().size(),
                ours ? place(declared.getCompilationUnit(), declared.getLeaf()) : "\t"));
        }

        @Override public Void visitMethodInvocation(MethodInvocationTree tree, Void nothing) {
            print(tree);
            return super.visitMethodInvocation(tree, nothing);
        }

        @Override public Void visitNewClass(NewClassTree tree, Void nothing) {
            print(tree);
            return super.visitNewClass(tree, nothing);
        }

        @Override public Void visitMemberReference(MemberReferenceTree tree, Void nothing) {
            print(tree);
            return super.visitMemberReference(tree, nothing);
        }
    }
}
