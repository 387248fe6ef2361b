import com.sun.source.tree.AssignmentTree;
import com.sun.source.tree.ClassTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.CompoundAssignmentTree;
import com.sun.source.tree.LambdaExpressionTree;
import com.sun.source.tree.MethodInvocationTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.UnaryTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreePath;
import com.sun.source.util.TreePathScanner;
import com.sun.source.util.TreeScanner;
import com.sun.source.util.Trees;
import java.io.IOException;
import java.io.Writer;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import javax.lang.model.element.Element;
import javax.lang.model.element.ElementKind;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.element.VariableElement;
import javax.lang.model.type.DeclaredType;
import javax.lang.model.type.PrimitiveType;
import javax.lang.model.type.TypeKind;
import javax.lang.model.type.TypeMirror;
import javax.lang.model.util.Types;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;

/**
 * Tells which statements javac takes at places of a file. It analyses the file with all candidates at once, each in a
 * block of its own, drops those that errors lie in, and does so again until the rest has none. It also drops what compares
 * values that are never equal, which {@code assertEquals(Object, Object)} would take.
 */
final class StatementChecker {
    // Whatever stands in the block, what follows can be reached, and no variable has got a value.
    private static final String OPENING = "\nif (\"\".isEmpty()) {\n";
    private static final String CLOSING = "\n}\n";

    private final JavaCompiler compiler;
    private final JavaFileManager files;
    private final List<String> options;
    private final String name;
    private final String source;
    private final int head;
    private final List<Candidate> candidates = new ArrayList<>();
    private String broken; // the first error of the file itself

    private static final class Candidate {
        final int place;
        final String imports;
        final String text;
        boolean imported;
        boolean setsVariables;
        String error;
        int end;

        Candidate(int place, String imports, String text) {
            this.place = place;
            this.imports = imports;
            this.text = text;
        }

        /** The first reason is kept. */
        void refuse(String reason) {
            error = error == null ? reason : error;
        }
    }

    /** {@code head}: where imports may be added; {@code given}: place, imports and statements of each candidate. */
    StatementChecker(JavaCompiler compiler, JavaFileManager files, List<String> options, String name, String source,
            int head, List<String> given) {
        this.compiler = compiler;
        this.files = files;
        this.options = new ArrayList<>(options);
        this.options.addAll(List.of("-Xmaxerrs", "1000000", "-XDshould-stop.ifError=FLOW")); // all errors, of any kind
        this.name = name;
        this.source = source;
        this.head = head;
        for (int i = 0; i < given.size(); i += 3) {
            candidates.add(new Candidate(Integer.parseInt(given.get(i)), given.get(i + 1), given.get(i + 2)));
        }
    }

    /** The answers as ScopeService describes them. */
    List<String> check() throws IOException {
        parse();
        List<Candidate> open = new ArrayList<>(candidates);
        open.removeIf(item -> item.error != null);
        settle(open, false);
        // Only what does not compile as it is gets imports, as where it is run: they may hide what the file imports.
        open.removeIf(item -> item.error == null || item.imports.isEmpty());
        for (Candidate item : open) {
            item.error = null;
            item.imported = true;
        }
        settle(open, false);
        List<String> answers = new ArrayList<>();
        for (Candidate item : candidates) {
            answers.add(item.error != null ? "refused\t" + item.error
                    : "taken\t" + (item.imported ? "1" : "0") + "\t" + (broken == null ? "" : broken));
        }
        return answers;
    }

    /** Refuses what is not some statements of one block, and notes which set variables. */
    private void parse() throws IOException {
        List<JavaFileObject> sources = new ArrayList<>();
        for (Candidate item : candidates) {
            String text = "class A { void m() { {\n" + item.text + "\n} } }";
            sources.add(new ScopeService.Source(String.valueOf(sources.size()), text));
        }
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        for (CompilationUnitTree unit : task(sources, found).parse()) {
            Candidate item = candidateOf(unit.getSourceFile());
            if (!isOneBlock(unit)) {
                item.refuse("it ends a block that it did not begin");
            }
            new TreeScanner<Void, Void>() {
                @Override
                public Void visitAssignment(AssignmentTree node, Void nothing) {
                    item.setsVariables = true;
                    return super.visitAssignment(node, nothing);
                }

                @Override
                public Void visitCompoundAssignment(CompoundAssignmentTree node, Void nothing) {
                    item.setsVariables = true;
                    return super.visitCompoundAssignment(node, nothing);
                }

                @Override
                public Void visitUnary(UnaryTree node, Void nothing) {
                    item.setsVariables |= node.getKind().name().matches("(PREFIX|POSTFIX)_.*");
                    return super.visitUnary(node, nothing);
                }
            }.scan(unit, null);
        }
        for (Diagnostic<? extends JavaFileObject> item : errors(found)) {
            candidateOf(item.getSource()).refuse(describe(item));
        }
    }

    /** The candidate whose number is the name of a file. */
    private Candidate candidateOf(JavaFileObject file) {
        return candidates.get(Integer.parseInt(file.getName().substring(1)));
    }

    private static boolean isOneBlock(CompilationUnitTree unit) {
        if (unit.getTypeDecls().size() != 1) {
            return false;
        }
        ClassTree holder = (ClassTree) unit.getTypeDecls().get(0);
        return holder.getMembers().size() == 1
                && ((MethodTree) holder.getMembers().get(0)).getBody().getStatements().size() == 1;
    }

    /**
     * All go together, but for what sets a variable: a lambda beside it may want that nobody does. Where that breaks the
     * rest of the file, an import does, and only those that need the same ones go together.
     */
    private void settle(List<Candidate> open, boolean byImports) throws IOException {
        Map<String, List<Candidate>> groups = new LinkedHashMap<>();
        for (Candidate item : open) {
            String key = item.setsVariables ? "alone " + groups.size() : byImports ? item.imports : "";
            groups.computeIfAbsent(key, unused -> new ArrayList<>()).add(item);
        }
        for (List<Candidate> group : groups.values()) {
            Diagnostic<?> outside = settle(group);
            if (outside == null || broken != null) {
                continue;
            }
            Diagnostic<?> own = settle(List.of());
            if (own != null) {
                broken = describeWithLine(own);
            } else if (byImports) {
                group.forEach(item -> item.refuse(describe(outside)));
            } else {
                group.forEach(item -> item.error = null);
                settle(group, true);
            }
        }
    }

    /** Refuses those of a group that errors lie in, until no more do; returns the first error that lies elsewhere. */
    private Diagnostic<?> settle(List<Candidate> group) throws IOException {
        List<Candidate> open = new ArrayList<>(group);
        open.sort(Comparator.comparingInt(item -> item.place));
        while (true) {
            Set<String> imports = new TreeSet<>();
            for (Candidate item : open) {
                imports.addAll(item.imported ? List.of(item.imports.split("\n")) : List.of());
            }
            StringBuilder text = new StringBuilder(source.substring(0, head));
            imports.forEach(line -> text.append(" import ").append(line).append(';'));
            TreeMap<Integer, Candidate> starts = new TreeMap<>();
            int last = head;
            for (Candidate item : open) {
                text.append(source, last, item.place);
                starts.put(text.length(), item);
                text.append(OPENING).append(item.text).append(CLOSING);
                item.end = text.length();
                last = item.place;
            }
            text.append(source, last, source.length());
            DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
            JavacTask task = task(List.of(new ScopeService.Source(name, text.toString())), found);
            CompilationUnitTree unit = task.parse().iterator().next();
            task.analyze();
            Diagnostic<?> outside = null;
            for (Diagnostic<?> error : errors(found)) {
                Candidate inside = find(starts, error.getPosition());
                if (inside != null) {
                    inside.refuse(describe(error));
                } else if (outside == null) {
                    outside = error;
                }
            }
            refuseUnequal(task, unit, starts);
            if (!open.removeIf(item -> item.error != null) || open.isEmpty()) {
                return outside;
            }
        }
    }

    /** The candidate that a position lies in, or null. */
    private static Candidate find(TreeMap<Integer, Candidate> starts, long position) {
        Map.Entry<Integer, Candidate> before = starts.floorEntry((int) position);
        return before != null && position < before.getValue().end ? before.getValue() : null;
    }

    /**
     * Refuses candidates with an {@code assertEquals} that always fails: of a boxed number, a text or an enum and what
     * cannot be cast to it, or JUnit 4's of two doubles.
     */
    private static void refuseUnequal(JavacTask task, CompilationUnitTree unit, TreeMap<Integer, Candidate> starts) {
        Trees trees = Trees.instance(task);
        Types types = task.getTypes();
        TypeMirror object = task.getElements().getTypeElement("java.lang.Object").asType();
        new TreePathScanner<Void, Void>() {
            /** What is asserted there may well be meant to fail. */
            @Override
            public Void visitLambdaExpression(LambdaExpressionTree node, Void nothing) {
                return null;
            }

            @Override
            public Void visitMethodInvocation(MethodInvocationTree node, Void nothing) {
                Candidate inside = find(starts, trees.getSourcePositions().getStartPosition(unit, node));
                Element called = inside == null ? null : trees.getElement(getCurrentPath());
                if (called instanceof ExecutableElement && called.getSimpleName().contentEquals("assertEquals")) {
                    List<? extends VariableElement> parameters = ((ExecutableElement) called).getParameters();
                    String holder = called.getEnclosingElement().toString();
                    List<TypeMirror> given = compared(parameters, node);
                    long numbers = parameters.stream().filter(item -> item.asType().getKind() == TypeKind.DOUBLE).count();
                    if (holder.equals("org.junit.Assert") && numbers == 2) {
                        inside.refuse("JUnit 4 compares no double values without a delta");
                    } else if (holder.matches("(org\\.)?junit\\..*") && given.size() == 2
                            && hasOwnEquals(given.get(0)) && !mayHold(given.get(1), given.get(0))) {
                        inside.refuse("it compares " + given.get(0) + " with " + given.get(1) + ", never equal");
                    }
                }
                return super.visitMethodInvocation(node, nothing);
            }

            /** The types of the values that JUnit compares with {@code equals}: where its parameters are an Object. */
            private List<TypeMirror> compared(List<? extends VariableElement> parameters, MethodInvocationTree node) {
                List<TypeMirror> found = new ArrayList<>();
                for (int i = 0; i < Math.min(parameters.size(), node.getArguments().size()); i++) {
                    TypeMirror type = trees.getTypeMirror(new TreePath(getCurrentPath(), node.getArguments().get(i)));
                    if (type != null && types.isSameType(parameters.get(i).asType(), object)) {
                        boolean plain = type.getKind().isPrimitive();
                        found.add(plain ? types.boxedClass((PrimitiveType) type).asType() : type);
                    }
                }
                return found;
            }

            /** Whether a value of a type may be one of another, final type. */
            private boolean mayHold(TypeMirror type, TypeMirror other) {
                boolean known = type.getKind() == TypeKind.DECLARED || type.getKind() == TypeKind.ARRAY;
                return !known || types.isSubtype(types.erasure(other), types.erasure(type));
            }

            private boolean hasOwnEquals(TypeMirror type) {
                if (type.getKind() != TypeKind.DECLARED) {
                    return false;
                }
                Element holder = ((DeclaredType) type).asElement();
                return holder.getKind() == ElementKind.ENUM || holder.toString().equals("java.lang.String")
                        || holder.toString().matches("java\\.lang\\.(Byte|Short|Character|Integer|Long|Float|Double|Boolean)");
            }
        }.scan(unit, null);
    }

    // -- javac -------------------------------------------------------------------------------------------------------

    /** The first error of a whole file, or the empty text. */
    static String compile(JavaCompiler compiler, JavaFileManager files, List<String> options, JavaFileObject source)
            throws IOException {
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        ((JavacTask) compiler.getTask(Writer.nullWriter(), files, found, options, null, List.of(source))).analyze();
        List<Diagnostic<? extends JavaFileObject>> errors = errors(found);
        return errors.isEmpty() ? "" : describeWithLine(errors.get(0));
    }

    private JavacTask task(List<? extends JavaFileObject> sources, DiagnosticCollector<JavaFileObject> found) {
        return (JavacTask) compiler.getTask(Writer.nullWriter(), files, found, options, null, sources);
    }

    private static List<Diagnostic<? extends JavaFileObject>> errors(DiagnosticCollector<JavaFileObject> found) {
        List<Diagnostic<? extends JavaFileObject>> errors = new ArrayList<>(found.getDiagnostics());
        errors.removeIf(item -> item.getKind() != Diagnostic.Kind.ERROR);
        return errors;
    }

    private static String describeWithLine(Diagnostic<?> error) {
        return "line " + error.getLineNumber() + ": " + describe(error);
    }

    private static String describe(Diagnostic<?> error) {
        return error.getMessage(Locale.ENGLISH).replaceAll("\\s+", " ").trim();
    }
}
