import com.sun.source.tree.AssignmentTree;
import com.sun.source.tree.ClassTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.ExpressionStatementTree;
import com.sun.source.tree.ExpressionTree;
import com.sun.source.tree.LambdaExpressionTree;
import com.sun.source.tree.MemberSelectTree;
import com.sun.source.tree.MethodInvocationTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.ModifiersTree;
import com.sun.source.tree.Tree;
import com.sun.source.tree.VariableTree;
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
import java.util.regex.Pattern;
import javax.lang.model.element.Element;
import javax.lang.model.element.Modifier;
import javax.lang.model.element.TypeElement;
import javax.lang.model.type.DeclaredType;
import javax.lang.model.type.TypeMirror;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Prints the statements of tests whose first call javac resolves to a method of an assertion library. A line holds, split by
 * tabs: file, first character of the statement (counted from 0), class and name of the method that is called, and how it
 * stands there: "statement", "lambda" (what a lambda consists of) or "value" (its result is stored). What stands inside of
 * such a statement is not printed.
 *
 * <p>Arguments: the class path, and a file that lists all sources.
 */
public final class ListAssertions {
    private static final List<String> LIBRARIES = List.of("org.junit.Assert", "org.junit.jupiter.api.Assert",
        "junit.framework.", "org.testng.Assert", "org.testng.AssertJUnit", "org.assertj.core.api.", "org.hamcrest.MatcherAssert",
        "com.google.common.truth.", "org.mockito.Mockito", "org.mockito.BDDMockito", "org.mockito.InOrder", "org.easymock.EasyMock");

    // Of Mockito's and EasyMock's methods only those that check something.
    private static final Pattern ASSERTION = Pattern.compile("(assert|fail|verify|then|expectThrows)\\w*");
    private static final List<String> TESTS =
        List.of("Test", "ParameterizedTest", "RepeatedTest", "TestFactory", "TestTemplate", "Theory");
    private static final List<String> OFF = List.of("Ignore", "Disabled");

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
        units.forEach(unit -> new AssertionPrinter(Trees.instance(task), out).scan(unit, null));
        out.flush();
    }

    private static final class AssertionPrinter extends TreePathScanner<Void, Void> {
        private final Trees trees;
        private final PrintStream out;

        AssertionPrinter(Trees trees, PrintStream out) {
            this.trees = trees;
            this.out = out;
        }

        private static boolean has(ModifiersTree modifiers, List<String> names) {
            return modifiers.getAnnotations().stream()
                .anyMatch(item -> names.contains(item.getAnnotationType().toString().replaceFirst(".*\\.", "")));
        }

        private boolean isTestCase(TreePath type) {
            Element current = trees.getElement(type);
            while (current instanceof TypeElement && !current.toString().equals("junit.framework.TestCase")) {
                TypeMirror parent = ((TypeElement) current).getSuperclass();
                current = parent instanceof DeclaredType ? ((DeclaredType) parent).asElement() : null;
            }
            return current != null;
        }

        /** Whether a method around the statement is a test, and neither it nor a class around it is switched off. */
        private boolean isInTest() {
            boolean inTest = false;
            for (TreePath path = getCurrentPath(); path != null; path = path.getParentPath()) {
                if (path.getLeaf() instanceof MethodTree) {
                    MethodTree method = (MethodTree) path.getLeaf();
                    boolean open = method.getModifiers().getFlags().contains(Modifier.PUBLIC)
                        && "void".equals(String.valueOf(method.getReturnType()));
                    ClassTree type = (ClassTree) path.getParentPath().getLeaf();
                    inTest |= has(method.getModifiers(), TESTS) || open && has(type.getModifiers(), List.of("Test"))
                        || open && method.getName().toString().startsWith("test") && method.getParameters().isEmpty()
                            && isTestCase(path.getParentPath());
                    if (has(method.getModifiers(), OFF)) {
                        return false;
                    }
                } else if (path.getLeaf() instanceof ClassTree && has(((ClassTree) path.getLeaf()).getModifiers(), OFF)) {
                    return false;
                }
            }
            return inTest;
        }

        private boolean print(Tree whole, ExpressionTree expression, String how) {
            TreePath path = new TreePath(getCurrentPath(), expression);
            MethodInvocationTree first = null;
            while (path.getLeaf() instanceof MethodInvocationTree) {
                first = (MethodInvocationTree) path.getLeaf();
                TreePath select = new TreePath(path, first.getMethodSelect());
                if (!(select.getLeaf() instanceof MemberSelectTree)) {
                    break;
                }
                ExpressionTree receiver = ((MemberSelectTree) select.getLeaf()).getExpression();
                if (!(receiver instanceof MethodInvocationTree)) {
                    break;
                }
                path = new TreePath(select, receiver);
            }
            Element called = first == null ? null : trees.getElement(new TreePath(path, first.getMethodSelect()));
            if (called == null || called.getEnclosingElement() == null) {
                return false;
            }
            String owner = called.getEnclosingElement().toString().replaceFirst("<.*", "");
            String name = called.getSimpleName().toString();
            if (LIBRARIES.stream().noneMatch(owner::startsWith) || !ASSERTION.matcher(name).matches() || !isInTest()) {
                return false;
            }
            CompilationUnitTree unit = getCurrentPath().getCompilationUnit();
            out.println(String.join("\t", Path.of(unit.getSourceFile().toUri()).toString(),
                "" + trees.getSourcePositions().getStartPosition(unit, whole), owner, name, how));
            return true;
        }

        @Override public Void visitExpressionStatement(ExpressionStatementTree tree, Void nothing) {
            ExpressionTree expression = tree.getExpression();
            boolean stored = expression instanceof AssignmentTree;
            ExpressionTree value = stored ? ((AssignmentTree) expression).getExpression() : expression;
            return print(tree, value, stored ? "value" : "statement") ? null : super.visitExpressionStatement(tree, nothing);
        }

        @Override public Void visitVariable(VariableTree tree, Void nothing) {
            ExpressionTree value = tree.getInitializer();
            return value != null && print(tree, value, "value") ? null : super.visitVariable(tree, nothing);
        }

        @Override public Void visitLambdaExpression(LambdaExpressionTree tree, Void nothing) {
            boolean plain = tree.getBodyKind() == LambdaExpressionTree.BodyKind.EXPRESSION;
            return plain && print(tree.getBody(), (ExpressionTree) tree.getBody(), "lambda") ? null
                : super.visitLambdaExpression(tree, nothing);
        }
    }
}
