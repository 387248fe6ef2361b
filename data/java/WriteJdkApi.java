import java.io.IOException;
import java.lang.reflect.*;
import java.net.URI;
import java.nio.file.*;
import java.util.*;
import java.util.stream.*;

/** Writes the declarations of the JDK's public types, without bodies: one line of Java for each top-level type. */
public final class WriteJdkApi {
    private static final String MODULES = "java\\.(base|sql|logging|xml|net\\.http|desktop|prefs)";
    private static final String PACKAGES = "(java/(?!awt|applet)|javax/(crypto|net|security|xml|sql)|org/(w3c/dom|xml/sax))[/\\w]*";

    public static void main(String[] arguments) throws IOException {
        FileSystem modules = FileSystems.getFileSystem(URI.create("jrt:/"));
        List<String> names;
        try (Stream<Path> files = Files.walk(modules.getPath("/modules"))) {
            names = files.map(Path::toString).filter(name -> name.matches("/modules/" + MODULES + "/" + PACKAGES
                + "/[^/$]+\\.class")).map(name -> name.replaceFirst("/modules/[^/]+/", "").replace(".class", "")
                .replace('/', '.')).sorted().collect(Collectors.toList());
        }
        for (String name : names) {
            try {
                Class<?> type = Class.forName(name, false, null);
                if (Modifier.isPublic(type.getModifiers()) && type.getModule().isExported(type.getPackageName())) {
                    System.out.println("package " + type.getPackageName() + "; " + write(type));
                }
            } catch (ClassNotFoundException | LinkageError ignored) {
                // package-info
            }
        }
    }

    private static boolean isVisible(int modifiers) {
        return Modifier.isPublic(modifiers) || Modifier.isProtected(modifiers);
    }

    private static String text(Type type) {
        return type.getTypeName().replace('$', '.');
    }

    private static String variables(TypeVariable<?>[] variables) {
        return variables.length == 0 ? "" : Stream.of(variables).map(variable -> {
            String bounds = Stream.of(variable.getBounds()).map(WriteJdkApi::text).collect(Collectors.joining(" & "));
            return variable.getName() + (bounds.equals("java.lang.Object") ? "" : " extends " + bounds);
        }).collect(Collectors.joining(", ", "<", ">"));
    }

    private static String parameters(Executable method) {
        StringBuilder text = new StringBuilder("(");
        Type[] types = method.getGenericParameterTypes();
        for (int i = 0; i < types.length; i++) {
            String type = text(types[i]);
            if (method.isVarArgs() && i == types.length - 1) {
                type = type.substring(0, type.length() - 2) + "...";
            }
            text.append(i == 0 ? "" : ", ").append(type).append(" p").append(i);
        }
        return text.append(")").toString();
    }

    private static String write(Class<?> type) {
        boolean isInterface = type.isInterface();
        StringBuilder text = new StringBuilder(isInterface ? "interface " : "class ");
        if (!isInterface && Modifier.isAbstract(type.getModifiers())) {
            text.insert(0, "abstract ");
        }
        if (Modifier.isStatic(type.getModifiers())) {
            text.insert(0, "static ");
        }
        text.append(type.getSimpleName()).append(variables(type.getTypeParameters()));
        if (!isInterface && type.getGenericSuperclass() != null && type.getSuperclass() != Object.class) {
            text.append(" extends ").append(text(type.getGenericSuperclass()));
        }
        if (type.getInterfaces().length > 0) {
            text.append(isInterface ? " extends " : " implements ").append(
                Stream.of(type.getGenericInterfaces()).map(WriteJdkApi::text).collect(Collectors.joining(", ")));
        }
        text.append(" {");
        List<String> members = new ArrayList<>();
        for (Field field : type.getDeclaredFields()) {
            if (isVisible(field.getModifiers()) && !field.isSynthetic()) {
                members.add(text(field.getGenericType()) + " " + field.getName() + ";");
            }
        }
        for (Constructor<?> method : type.getDeclaredConstructors()) {
            if (isVisible(method.getModifiers()) && !method.isSynthetic()) {
                members.add(variables(method.getTypeParameters()) + " " + type.getSimpleName() + parameters(method) + " {}");
            }
        }
        for (Method method : type.getDeclaredMethods()) {
            if (isVisible(method.getModifiers()) && !method.isSynthetic() && !method.isBridge()) {
                members.add((Modifier.isStatic(method.getModifiers()) ? "static " : "")
                    + (method.isDefault() ? "default " : "") + variables(method.getTypeParameters()) + " "
                    + text(method.getGenericReturnType()) + " " + method.getName() + parameters(method)
                    + (Modifier.isAbstract(method.getModifiers()) ? ";" : " {}"));
            }
        }
        for (Class<?> nested : type.getDeclaredClasses()) {
            if (isVisible(nested.getModifiers())) {
                members.add(write(nested));
            }
        }
        Collections.sort(members);
        return text.append(String.join(" ", members).replaceAll("\\s+", " ").replaceAll("java\\.lang\\.(?=[A-Z])", "")).append("}").toString();
    }
}
