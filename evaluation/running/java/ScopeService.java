import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.EmptyStatementTree;
import com.sun.source.tree.ImportTree;
import com.sun.source.tree.MemberSelectTree;
import com.sun.source.tree.Scope;
import com.sun.source.tree.Tree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreePath;
import com.sun.source.util.TreePathScanner;
import com.sun.source.util.Trees;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.Writer;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import javax.lang.model.element.Element;
import javax.lang.model.element.ElementKind;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.element.Modifier;
import javax.lang.model.element.PackageElement;
import javax.lang.model.element.TypeElement;
import javax.lang.model.element.TypeParameterElement;
import javax.lang.model.type.ArrayType;
import javax.lang.model.type.DeclaredType;
import javax.lang.model.type.ExecutableType;
import javax.lang.model.type.IntersectionType;
import javax.lang.model.type.TypeKind;
import javax.lang.model.type.TypeMirror;
import javax.lang.model.type.TypeVariable;
import javax.lang.model.type.UnionType;
import javax.lang.model.type.WildcardType;
import javax.lang.model.util.Elements;
import javax.lang.model.util.Types;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.StandardLocation;
import javax.tools.ToolProvider;

/**
 * Tells what code can name at places of a Java file, and which statements can stand there: javac analyses the file, no
 * code of it runs.
 *
 * <p>A message is an int (how many fields) and then, for each field, an int (its length) and its bytes; text is UTF-8.
 * First come the class path's entries; then, over and over,
 * {@code open, file, release, source, class of importable assertions, (offset of an empty statement)*}, answered by one
 * field for each offset: lines as below, or {@code error} and a reason; {@code members, type}, about the file that was
 * opened last, answered by one field;
 * {@code check, file, release, source, where imports go, (offset, imports in lines, statements)*}, answered by one field
 * for each offset: {@code refused error}, {@code taken imports error}, where imports is 1 if it needs them and the error,
 * if any, is the file's own, so that nothing is certain, or {@code error} and a reason;
 * {@code compile, file, release, source}, answered by its first error, if any. A release is empty for the JDK's own. All
 * offsets count chars. Where javac fails, one field with {@code error} stands for all.
 *
 * <p>A line has words separated by tabs: {@code v name type} a variable or field;
 * {@code M name static fewest varargs returned accepts} a method, where accepts has the sorts that each parameter takes,
 * separated by commas; {@code C} the same for a constructor, and {@code I} for an assertion that can be imported;
 * {@code t name type} a type; {@code k kind component sorts} what kind of type it is, and what its values may be;
 * {@code p name} the root of a package. A type is a number, -1 where it is not known. The sorts are a (array), b
 * (boolean), n (number), t (text), o (other object), 0 (null) and l (lambda).
 */
public final class ScopeService {
    private static final int UNKNOWN = -1;
    private static final String ALL = "abnto0l";
    private static final Set<String> NUMBERS = Set.of("java.lang.Byte", "java.lang.Short", "java.lang.Integer",
            "java.lang.Long", "java.lang.Float", "java.lang.Double", "java.lang.Character");

    private final DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
    private final DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 16));
    private final JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    private StandardJavaFileManager files;
    private String importable;

    // Of the file that was opened last.
    private Trees trees;
    private Elements elements;
    private Types types;
    private Scope scope;
    private List<TypeMirror> known;
    private Map<String, Integer> numbers;
    private Map<TypeElement, Boolean> functional;
    private Map<TypeElement, String> accepted;

    public static void main(String[] args) throws IOException {
        new ScopeService().serve();
    }

    private void serve() throws IOException {
        List<String> setup = read();
        files = compiler.getStandardFileManager(null, Locale.ENGLISH, StandardCharsets.UTF_8);
        List<Path> entries = new ArrayList<>();
        for (String entry : setup.get(0).split("\n")) {
            if (!entry.isEmpty()) {
                entries.add(Path.of(entry));
            }
        }
        files.setLocationFromPaths(StandardLocation.CLASS_PATH, entries);
        files.setLocationFromPaths(StandardLocation.SOURCE_PATH, Collections.emptyList());
        while (true) {
            List<String> request = read();
            if (request == null) {
                return;
            }
            List<String> reply;
            try {
                reply = answer(request);
            } catch (RuntimeException | IOException | Error error) { // javac has bugs, and stops at half a file
                reply = List.of("error\t" + error);
            }
            write(reply);
        }
    }

    private List<String> answer(List<String> request) throws IOException {
        switch (request.get(0)) {
            case "open":
                return open(request);
            case "compile":
                return List.of(StatementChecker.compile(compiler, files, options(request), source(request)));
            case "check":
                return new StatementChecker(compiler, files, options(request), request.get(1), request.get(3),
                        Integer.parseInt(request.get(4)), request.subList(5, request.size())).check();
            default:
                return List.of(members(Integer.parseInt(request.get(1))));
        }
    }

    private static Source source(List<String> request) {
        return new Source(request.get(1), request.get(3));
    }

    private static List<String> options(List<String> request) {
        List<String> options = new ArrayList<>(List.of("-proc:none", "-nowarn", "-Xlint:none"));
        if (!request.get(2).isEmpty()) {
            options.addAll(List.of("--release", request.get(2)));
        }
        return options;
    }

    // -- a file ------------------------------------------------------------------------------------------------------

    private List<String> open(List<String> request) throws IOException {
        importable = request.get(4);
        JavacTask task = (JavacTask) compiler.getTask(
                Writer.nullWriter(), files, new DiagnosticCollector<JavaFileObject>(), options(request), null,
                List.of(source(request)));
        CompilationUnitTree unit = task.parse().iterator().next();
        task.analyze();
        trees = Trees.instance(task);
        elements = task.getElements();
        types = task.getTypes();
        known = new ArrayList<>();
        numbers = new HashMap<>();
        functional = new HashMap<>();
        accepted = new HashMap<>();
        Map<Long, TreePath> places = new HashMap<>();
        new TreePathScanner<Void, Void>() {
            @Override
            public Void visitEmptyStatement(EmptyStatementTree node, Void nothing) {
                places.put(trees.getSourcePositions().getStartPosition(unit, node), getCurrentPath());
                return null;
            }
        }.scan(unit, null);
        List<String> reply = new ArrayList<>();
        for (String offset : request.subList(5, request.size())) {
            TreePath place = places.get(Long.parseLong(offset));
            try {
                reply.add(place == null ? "error\tthe place is not in a method that javac reads" : describe(unit, place));
            } catch (RuntimeException error) {
                reply.add("error\t" + error);
            }
        }
        return reply;
    }

    /** What can be named at a place. */
    private String describe(CompilationUnitTree unit, TreePath place) {
        scope = trees.getScope(place);
        if (scope.getEnclosingClass() == null) {
            return "error\tno class around the place";
        }
        Lines lines = new Lines();
        Map<String, TypeElement> named = new LinkedHashMap<>();
        for (Scope outer = scope; outer != null && outer.getEnclosingMethod() != null; outer = outer.getEnclosingScope()) {
            for (Element item : outer.getLocalElements()) {
                String name = item.getSimpleName().toString();
                if (item.getKind().isClass() || item.getKind().isInterface()) {
                    named.putIfAbsent(name, (TypeElement) item);
                } else if (item.getKind() != ElementKind.TYPE_PARAMETER && !name.equals("this") && !name.equals("super")) {
                    lines.variable(name, item.asType());
                }
            }
        }
        if (scope.getEnclosingMethod() != null) {
            variables(lines, scope.getEnclosingMethod().getTypeParameters());
        }
        lines.add("v\tthis\t" + number(scope.getEnclosingClass().asType()));
        lines.add("v\tsuper\t" + number(scope.getEnclosingClass().getSuperclass()));
        for (Element around = scope.getEnclosingClass(); around != null; around = around.getEnclosingElement()) {
            if (around instanceof TypeElement) {
                TypeElement type = (TypeElement) around;
                named.putIfAbsent(type.getSimpleName().toString(), type);
                variables(lines, type.getTypeParameters());
                members(lines, (DeclaredType) type.asType(), named);
            }
        }
        for (ImportTree line : unit.getImports()) {
            if (line.isStatic()) {
                importStatic(lines, named, (MemberSelectTree) line.getQualifiedIdentifier());
            }
        }
        for (ImportTree line : unit.getImports()) {
            String name = line.getQualifiedIdentifier().toString();
            TypeElement type = line.isStatic() || name.endsWith(".*") ? null : elements.getTypeElement(name);
            if (type != null) {
                named.putIfAbsent(type.getSimpleName().toString(), type);
            }
        }
        PackageElement own = elements.getPackageOf(scope.getEnclosingClass());
        addPackage(named, own);
        for (ImportTree line : unit.getImports()) {
            String name = line.getQualifiedIdentifier().toString();
            if (!line.isStatic() && name.endsWith(".*")) {
                String holder = name.substring(0, name.length() - 2);
                addPackage(named, elements.getPackageElement(holder));
                TypeElement type = elements.getTypeElement(holder);
                for (Element item : type == null ? List.<Element>of() : elements.getAllMembers(type)) {
                    if (item instanceof TypeElement) {
                        named.putIfAbsent(item.getSimpleName().toString(), (TypeElement) item);
                    }
                }
            }
            lines.add("p\t" + name.split("\\.")[0]);
        }
        addPackage(named, elements.getPackageElement("java.lang"));
        TypeElement assertions = importable.isEmpty() ? null : elements.getTypeElement(importable);
        if (assertions != null) {
            named.putIfAbsent(assertions.getSimpleName().toString(), assertions);
        }
        named.forEach((name, type) -> lines.add("t\t" + name + "\t" + number(types.erasure(type.asType()))));
        for (Element item : assertions == null ? List.<Element>of() : elements.getAllMembers(assertions)) {
            if (item.getKind() == ElementKind.METHOD && item.getModifiers().contains(Modifier.STATIC)) {
                lines.method("I", (ExecutableElement) item, (ExecutableType) item.asType());
            }
        }
        return lines.toString();
    }

    /** Type variables, which are types like any other. */
    private void variables(Lines lines, List<? extends TypeParameterElement> parameters) {
        for (TypeParameterElement item : parameters) {
            lines.add("t\t" + item.getSimpleName() + "\t" + number(item.asType()));
        }
    }

    private void addPackage(Map<String, TypeElement> named, PackageElement holder) {
        for (Element item : holder == null ? List.<Element>of() : holder.getEnclosedElements()) {
            if (item instanceof TypeElement && trees.isAccessible(scope, (TypeElement) item)) {
                named.putIfAbsent(item.getSimpleName().toString(), (TypeElement) item);
            }
        }
    }

    private void importStatic(Lines lines, Map<String, TypeElement> named, MemberSelectTree name) {
        TypeElement holder = elements.getTypeElement(name.getExpression().toString());
        if (holder == null) {
            return;
        }
        DeclaredType type = (DeclaredType) holder.asType();
        for (Element item : elements.getAllMembers(holder)) {
            boolean meant = name.getIdentifier().contentEquals("*") || item.getSimpleName().equals(name.getIdentifier());
            if (meant && item.getModifiers().contains(Modifier.STATIC) && trees.isAccessible(scope, item, type)) {
                member(lines, item, type, named);
            }
        }
    }

    // -- members -----------------------------------------------------------------------------------------------------

    private String members(int number) {
        Lines lines = new Lines();
        TypeMirror type = known.get(number);
        lines.add("k\t" + kind(type) + "\t"
                + (type.getKind() == TypeKind.ARRAY ? number(((ArrayType) type).getComponentType()) : UNKNOWN)
                + "\t" + sorts(type));
        if (type.getKind() == TypeKind.ARRAY) {
            lines.add("M\tclone\t0\t0\t0\t" + number + "\t"); // the class Object's is hidden
        }
        for (TypeMirror part : parts(type)) {
            Map<String, TypeElement> named = new LinkedHashMap<>();
            members(lines, (DeclaredType) part, named);
            named.forEach((name, inner) -> lines.add("t\t" + name + "\t" + number(types.erasure(inner.asType()))));
            TypeElement holder = (TypeElement) ((DeclaredType) part).asElement();
            if (holder.getKind() == ElementKind.CLASS) {
                for (Element item : holder.getEnclosedElements()) {
                    if (item.getKind() == ElementKind.CONSTRUCTOR && trees.isAccessible(scope, item, (DeclaredType) part)) {
                        lines.method("C", (ExecutableElement) item, (ExecutableType) item.asType());
                    }
                }
            }
        }
        return lines.toString();
    }

    private static String kind(TypeMirror type) {
        if (type.getKind().isPrimitive() || type.getKind() == TypeKind.VOID) {
            return "primitive";
        }
        return type.getKind() == TypeKind.ARRAY ? "array" : "declared";
    }

    /** The declared types whose members a value of this type has. */
    private List<TypeMirror> parts(TypeMirror type) {
        switch (type.getKind()) {
            case DECLARED:
                return List.of(type);
            case TYPEVAR:
                return parts(((TypeVariable) type).getUpperBound());
            case WILDCARD:
                TypeMirror bound = ((WildcardType) type).getExtendsBound();
                return bound == null ? List.of(elements.getTypeElement("java.lang.Object").asType()) : parts(bound);
            case INTERSECTION:
                return flat(((IntersectionType) type).getBounds());
            case UNION:
                return flat(((UnionType) type).getAlternatives());
            case ARRAY:
                return List.of(elements.getTypeElement("java.lang.Object").asType());
            default:
                return List.of();
        }
    }

    private List<TypeMirror> flat(List<? extends TypeMirror> given) {
        List<TypeMirror> found = new ArrayList<>();
        given.forEach(item -> found.addAll(parts(item)));
        return found;
    }

    private void members(Lines lines, DeclaredType type, Map<String, TypeElement> named) {
        for (Element item : elements.getAllMembers((TypeElement) type.asElement())) {
            if (item.getKind() != ElementKind.CONSTRUCTOR && trees.isAccessible(scope, item, type)) {
                member(lines, item, type, named);
            }
        }
        if (type.asElement().getKind().isInterface()) { // a value of an interface has Object's methods, too
            for (Element item : elements.getTypeElement("java.lang.Object").getEnclosedElements()) {
                if (item.getKind() == ElementKind.METHOD && item.getModifiers().contains(Modifier.PUBLIC)) {
                    lines.method("M", (ExecutableElement) item, (ExecutableType) item.asType());
                }
            }
        }
    }

    private void member(Lines lines, Element item, DeclaredType type, Map<String, TypeElement> named) {
        if (item instanceof TypeElement) {
            named.putIfAbsent(item.getSimpleName().toString(), (TypeElement) item);
        } else if (item.getKind() == ElementKind.METHOD) {
            lines.method("M", (ExecutableElement) item, (ExecutableType) as(type, item));
        } else if (item.getKind().isField()) {
            lines.variable(item.getSimpleName().toString(), as(type, item));
        }
    }

    private TypeMirror as(DeclaredType type, Element item) {
        try {
            return types.asMemberOf(type, item);
        } catch (IllegalArgumentException notAMember) {
            return item.asType();
        }
    }

    private final class Lines {
        private final Set<String> lines = new LinkedHashSet<>();
        private final Set<String> variables = new LinkedHashSet<>();

        void add(String line) {
            lines.add(line);
        }

        /** The first of a name hides the others. */
        void variable(String name, TypeMirror type) {
            if (variables.add(name)) {
                add("v\t" + name + "\t" + number(type));
            }
        }

        void method(String sign, ExecutableElement method, ExecutableType type) {
            List<String> parameters = new ArrayList<>();
            int count = type.getParameterTypes().size();
            for (int i = 0; i < count; i++) {
                TypeMirror parameter = type.getParameterTypes().get(i);
                boolean many = i == count - 1 && method.isVarArgs() && parameter.getKind() == TypeKind.ARRAY;
                parameters.add(many ? accepts(((ArrayType) parameter).getComponentType()) + "a0" : accepts(parameter));
            }
            add(String.join("\t", sign, method.getSimpleName(), method.getModifiers().contains(Modifier.STATIC) ? "1" : "0",
                    String.valueOf(method.isVarArgs() ? count - 1 : count), method.isVarArgs() ? "1" : "0",
                    String.valueOf(number(type.getReturnType())), String.join(",", parameters)));
        }

        @Override
        public String toString() {
            return String.join("\n", lines);
        }
    }

    /** What a value of a type may be. */
    private static String sorts(TypeMirror type) {
        if (type.getKind() == TypeKind.BOOLEAN) {
            return "b";
        }
        if (type.getKind().isPrimitive()) {
            return "n";
        }
        if (type.getKind() == TypeKind.DECLARED) {
            String name = ((TypeElement) ((DeclaredType) type).asElement()).getQualifiedName().toString();
            return name.equals("java.lang.Boolean") ? "b" : name.equals("java.lang.String") ? "t"
                    : NUMBERS.contains(name) ? "n" : "o";
        }
        return type.getKind() == TypeKind.VOID ? "" : type.getKind() == TypeKind.ARRAY ? "a" : ALL;
    }

    /** What a parameter of a type takes. */
    private String accepts(TypeMirror type) {
        if (type.getKind() != TypeKind.DECLARED) {
            return sorts(type) + (type.getKind() == TypeKind.ARRAY ? "0" : "");
        }
        return accepted.computeIfAbsent((TypeElement) ((DeclaredType) type).asElement(), holder -> {
            TypeMirror erased = types.erasure(holder.asType());
            StringBuilder found = new StringBuilder(sorts(erased).equals("o") ? "o0" : "0");
            if (takesLambda(erased)) {
                found.append('l');
            }
            if (types.isAssignable(types.getArrayType(types.getPrimitiveType(TypeKind.INT)), erased)) {
                found.append('a');
            }
            Map<String, String> samples = new LinkedHashMap<>(Map.of("java.lang.Boolean", "b", "java.lang.String", "t"));
            NUMBERS.forEach(name -> samples.put(name, "n"));
            samples.forEach((name, sort) -> {
                if (found.indexOf(sort) < 0 && types.isAssignable(elements.getTypeElement(name).asType(), erased)) {
                    found.append(sort);
                }
            });
            return found.toString();
        });
    }

    /** An interface with one method that has to be written. */
    private boolean takesLambda(TypeMirror type) {
        if (type.getKind() != TypeKind.DECLARED || !((DeclaredType) type).asElement().getKind().isInterface()) {
            return false;
        }
        return functional.computeIfAbsent((TypeElement) ((DeclaredType) type).asElement(), holder -> {
            Set<String> open = new LinkedHashSet<>();
            for (Element item : elements.getAllMembers(holder)) {
                if (item.getModifiers().contains(Modifier.ABSTRACT) && item.getKind() == ElementKind.METHOD
                        && !isOfObject((ExecutableElement) item)) {
                    open.add(item.getSimpleName().toString());
                }
            }
            return open.size() == 1;
        });
    }

    private boolean isOfObject(ExecutableElement method) {
        for (Element item : elements.getTypeElement("java.lang.Object").getEnclosedElements()) {
            if (item.getSimpleName().equals(method.getSimpleName()) && item.getModifiers().contains(Modifier.PUBLIC)
                    && types.isSubsignature((ExecutableType) item.asType(), (ExecutableType) method.asType())) {
                return true;
            }
        }
        return false;
    }

    /** A type's number. A type variable of a method stands for whatever the call infers. */
    private int number(TypeMirror type) {
        if (type.getKind() == TypeKind.ERROR || type.getKind() == TypeKind.NONE || type.getKind() == TypeKind.OTHER) {
            return UNKNOWN;
        }
        if (type.getKind() == TypeKind.WILDCARD && ((WildcardType) type).getExtendsBound() == null) {
            return UNKNOWN; // its type parameter may have a bound
        }
        if (type.getKind() == TypeKind.TYPEVAR) {
            Element holder = ((TypeVariable) type).asElement().getEnclosingElement();
            if (holder instanceof ExecutableElement) {
                return UNKNOWN;
            }
        }
        return numbers.computeIfAbsent(type.getKind() + " " + type, text -> {
            known.add(type);
            return known.size() - 1;
        });
    }

    // -- the pipe ----------------------------------------------------------------------------------------------------

    static final class Source extends SimpleJavaFileObject {
        private final String text;

        Source(String name, String text) {
            super(uri(name), Kind.SOURCE);
            this.text = text;
        }

        private static URI uri(String name) {
            try {
                return new URI("memory", null, "/" + name, null); // which quotes what a name may not hold
            } catch (URISyntaxException impossible) {
                throw new IllegalArgumentException(impossible);
            }
        }

        @Override
        public CharSequence getCharContent(boolean ignoreEncodingErrors) {
            return text;
        }
    }

    private List<String> read() throws IOException {
        int count;
        try {
            count = in.readInt();
        } catch (IOException closed) {
            return null; // the Python side has ended
        }
        List<String> fields = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            byte[] field = new byte[in.readInt()];
            in.readFully(field);
            fields.add(new String(field, StandardCharsets.UTF_8));
        }
        return fields;
    }

    private void write(List<String> fields) throws IOException {
        out.writeInt(fields.size());
        for (String field : fields) {
            byte[] bytes = field.getBytes(StandardCharsets.UTF_8);
            out.writeInt(bytes.length);
            out.write(bytes);
        }
        out.flush();
    }
}
