"""Predictions that try to end, fool, fill or change what judges them, by kind; for the test of Cart.total().

TRY(...) stands for the code with its checked exceptions made unchecked; VICTIM, PROJECT and SECRET are replaced.
"""

from __future__ import annotations

from typing import NamedTuple


class Hostile(NamedTuple):
    """A prediction, and the ``statuses`` that it may get (a|b); ``unguarded``: on a JDK without a security manager."""

    kind: str
    name: str
    code: str
    statuses: str
    unguarded: str = ""


EXEC = 'TRY(int code = new ProcessBuilder({words}).inheritIO().start().waitFor(); if (code != 0) fail("" + code);)'
WRITE = 'TRY(Files.write(Paths.get("{path}"), new byte[9]);)'
UNSAFE = (
    'TRY(var field = Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe"); field.setAccessible(true);'
    " var unsafe = (sun.misc.Unsafe) field.get(null); {act})"
)
LOOP = "() -> {{ while (true) {{ }} }}".replace("{{", "{").replace("}}", "}")


def _exec(words: str) -> str:
    return EXEC.replace("{words}", words)


def _write(path: str) -> str:
    return WRITE.replace("{path}", path)


def _unsafe(act: str) -> str:
    return UNSAFE.replace("{act}", act)


_ROWS = [
    ("exit", "0", "System.exit(0);", "failed", "died"),
    ("exit", "1", "System.exit(1);", "failed", "died"),
    ("exit", "halt", "Runtime.getRuntime().halt(3);", "failed", "died"),
    ("exit", "hook that hangs", f"Runtime.getRuntime().addShutdownHook(new Thread({LOOP}));", "passed"),
    (
        "exit",
        "hook that hangs, then exit",
        f"Runtime.getRuntime().addShutdownHook(new Thread({LOOP})); System.exit(0);",
        "failed",
        "timeout",
    ),
    ("exit", "in a thread", "TRY(Thread t = new Thread(() -> System.exit(0)); t.start(); t.join();)", "passed", "died"),
    ("kill", "itself", "ProcessHandle.current().destroyForcibly();", "failed"),
    ("kill", "the parent", "ProcessHandle.current().parent().get().destroyForcibly();", "passed|failed"),
    ("kill", "everything", "ProcessHandle.allProcesses().forEach(p -> p.destroyForcibly());", "passed|failed"),
    ("kill", "everything by a command", _exec('"sh", "-c", "kill -9 -1"'), "failed", "died|passed|failed"),
    (
        "kill",
        "stop itself",
        _exec('"sh", "-c", "kill -STOP " + ProcessHandle.current().pid()'),
        "failed",
        "timeout|died",
    ),
    ("fork", "touch", _exec('"touch", "VICTIM"'), "failed"),
    ("fork", "shell", 'TRY(Runtime.getRuntime().exec("sh -c ls").waitFor();)', "failed", "passed"),
    ("fork", "left behind", _exec('"sh", "-c", "setsid sleep 1000 & exit 0"'), "failed", "passed"),
    ("fork", "bomb", _exec('"sh", "-c", "b() { b | b & }; b; sleep 1"'), "failed", "passed|failed|timeout|died"),
    (
        "fork",
        "many",
        'TRY(for (int i = 0; i < 5000; i++) new ProcessBuilder("sleep", "99").start();)',
        "failed",
        "failed|timeout|died",
    ),
    ("threads", "loop", f"new Thread({LOOP}).start();", "passed"),
    ("threads", "daemon", f"Thread t = new Thread({LOOP}); t.setDaemon(true); t.start();", "passed"),
    (
        "threads",
        "outside of the group",
        "ThreadGroup g = Thread.currentThread().getThreadGroup(); while (g.getParent() != null) g = g.getParent();"
        f" new Thread(g, {LOOP}).start();",
        "passed",
    ),
    ("threads", "common pool", f"java.util.concurrent.ForkJoinPool.commonPool().execute({LOOP});", "passed"),
    ("threads", "completable future", f"java.util.concurrent.CompletableFuture.runAsync({LOOP});", "passed"),
    (
        "threads",
        "timer",
        "new java.util.Timer().schedule(new java.util.TimerTask() { public void run() { } }, 0, 1);",
        "passed",
    ),
    (
        "threads",
        "executor",
        f"java.util.concurrent.Executors.newScheduledThreadPool(4).execute({LOOP});",
        "passed",
    ),
    (
        "threads",
        "thousands",
        "for (int i = 0; i < 5000; i++) { Thread t = new Thread(() -> { try { Thread.sleep(99999); } catch"
        " (InterruptedException e) { } }); t.setDaemon(true); t.start(); }",
        "passed|failed|died|timeout",
    ),
    ("threads", "parallel stream", "java.util.stream.IntStream.range(0, 9).parallel().forEach(i -> { });", "passed"),
    ("threads", "interrupts all", "Thread.getAllStackTraces().keySet().forEach(Thread::interrupt);", "passed|timeout"),
    ("threads", "virtual", f"Thread.ofVirtual().start({LOOP});", "compile error", "passed"),
    ("threads", "deadlock", "TRY(Object o = new Object(); synchronized (o) { o.wait(); })", "timeout"),
    (
        "threads",
        "suspends the service",
        'for (Thread t : Thread.getAllStackTraces().keySet()) if (t.getName().equals("main")) t.setPriority(1);',
        "passed",
    ),
    (
        "memory",
        "heap",
        "java.util.List<long[]> all = new java.util.ArrayList<>(); while (true) all.add(new long[1 << 20]);",
        "failed",
    ),
    ("memory", "one array", "long[] all = new long[Integer.MAX_VALUE - 8]; all[0] = 1;", "failed"),
    (
        "memory",
        "direct buffers",
        "java.util.List<Object> all = new java.util.ArrayList<>();"
        " while (true) all.add(java.nio.ByteBuffer.allocateDirect(1 << 24));",
        "failed",
    ),
    (
        "memory",
        "native",
        _unsafe("while (true) unsafe.setMemory(unsafe.allocateMemory(1 << 26), 1 << 26, (byte) 1);"),
        "failed|died|timeout",
    ),
    ("memory", "text", 'String s = "x"; while (true) s += s;', "failed"),
    ("memory", "stack", "new Object() { void down() { down(); } }.down();", "failed"),
    (
        "memory",
        "swallowed",
        "try { new long[Integer.MAX_VALUE - 8].clone(); } catch (OutOfMemoryError e) { }",
        "passed",
    ),
    ("memory", "kept in the properties", 'System.getProperties().put("x", new long[10 << 20]);', "passed|failed"),
    (
        "memory",
        "proxies",
        "for (int i = 0; i < 9000; i++) java.lang.reflect.Proxy.newProxyInstance(new ClassLoader(Runnable.class"
        ".getClassLoader()) { }, new Class<?>[] {Runnable.class}, (a, b, c) -> null);",
        "passed|failed|timeout|died",
    ),
    ("disk", "elsewhere", _write("VICTIM"), "failed"),
    ("disk", "into the project", _write("PROJECT/new"), "failed"),
    ("disk", "over a source", _write("PROJECT/src/main/java/shop/Cart.java"), "failed"),
    ("disk", "deletes a source", 'TRY(Files.delete(Paths.get("PROJECT/src/main/java/shop/Cart.java"));)', "failed"),
    (
        "disk",
        "one large file",
        'TRY(var out = Files.newOutputStream(Paths.get("large")); while (true) out.write(new byte[1 << 20]);)',
        "failed|timeout|died",
    ),
    (
        "disk",
        "many large files",
        'TRY(for (int i = 0; ; i++) Files.write(Paths.get("large" + i), new byte[8 << 20]);)',
        "failed|timeout",
    ),
    (
        "disk",
        "many small files",
        'TRY(for (int i = 0; i < 3000; i++) Files.write(Paths.get("small" + i), new byte[1]);)',
        "passed|timeout",
    ),
    (
        "disk",
        "through a link",
        'TRY(Files.createSymbolicLink(Paths.get("link"), Paths.get("PROJECT"));'
        ' Files.write(Paths.get("link/new"), new byte[9]);)',
        "failed",
    ),
    (
        "disk",
        "takes the right to read",
        'new java.io.File("data").setReadable(false); new java.io.File("data").setExecutable(false);'
        ' new java.io.File("data").setWritable(false);',
        "passed",
    ),
    ("disk", "deletes its data", 'TRY(Files.delete(Paths.get("data/prices.txt"));)', "passed"),
    ("disk", "changes a time", 'new java.io.File("data/prices.txt").setLastModified(0);', "passed"),
    (
        "disk",
        "deep folders",
        'java.io.File f = new java.io.File("d"); for (int i = 0; i < 200; i++) f = new java.io.File(f, "d");'
        ' if (!f.mkdirs()) fail("");',
        "passed|timeout",
    ),
    ("disk", "device", _write("/dev/shm/VICTIM"), "failed"),
    ("network", "out", 'TRY(new java.net.Socket("192.0.2.1", 53).close();)', "failed|timeout"),
    ("network", "name", 'TRY(java.net.InetAddress.getByName("example.org");)', "failed|timeout"),
    ("network", "download", 'TRY(new java.net.URL("http://192.0.2.1/").openStream();)', "failed|timeout"),
    ("network", "listens", "TRY(new java.net.ServerSocket(0).accept();)", "timeout|failed"),
    (
        "network",
        "datagram",
        "TRY(new java.net.DatagramSocket().send(new java.net.DatagramPacket(new byte[1], 1, java.net.InetAddress"
        '.getByName("192.0.2.1"), 9));)',
        "failed",
    ),
    ("environment", "variable", 'if (System.getenv("SECRET") != null) fail("seen");', "passed"),
    (
        "environment",
        "own process",
        'TRY(if (new String(Files.readAllBytes(Paths.get("/proc/self/environ"))).contains("SECRET")) fail("seen");)',
        "passed",
    ),
    (
        "environment",
        "first process",
        'TRY(if (new String(Files.readAllBytes(Paths.get("/proc/1/environ"))).contains("SECRET")) fail("seen");)',
        "passed|failed",
    ),
    (
        "environment",
        "changed",
        'TRY(var f = System.getenv().getClass().getDeclaredField("m"); f.setAccessible(true);'
        ' ((java.util.Map) f.get(System.getenv())).put("A", "b");)',
        "passed|failed",
    ),
    (
        "files",
        "home",
        'String[] all = new java.io.File("/root").list(); if (all != null && all.length > 0) fail("");',
        "passed",
    ),
    (
        "files",
        "the service",
        'TRY(Files.delete(Paths.get(System.getProperty("java.class.path"), "Guard.class"));)',
        "failed",
    ),
    ("files", "processes of others", 'if (ProcessHandle.allProcesses().count() > 40) fail("");', "passed"),
    (
        "reflection",
        "text",
        'TRY(var f = String.class.getDeclaredField("value"); f.setAccessible(true);)',
        "passed|failed",
    ),
    (
        "reflection",
        "small numbers",
        'TRY(var f = Integer.class.getDeclaredField("value"); f.setAccessible(true); f.set(7, 8);)',
        "passed|failed",
    ),
    (
        "reflection",
        "the service's class",
        'TRY(Class.forName("ExecutionService", true, ClassLoader.getSystemClassLoader()).getMethods();)',
        "passed|failed",
    ),
    (
        "reflection",
        "starts the service again",
        'TRY(Class.forName("ExecutionService", true, ClassLoader.getSystemClassLoader()).getMethod("main",'
        ' String[].class).invoke(null, (Object) new String[] {".", ".", "1"});)',
        "failed|timeout|died",
    ),
    (
        "reflection",
        "forges an answer",
        "TRY(new java.io.FileOutputStream(java.io.FileDescriptor.out).write(new byte[] {0, 0, 0, 1, 0, 0, 0, 0});)",
        "failed",
        "died",
    ),
    (
        "reflection",
        "closes the channel",
        "TRY(new java.io.FileOutputStream(java.io.FileDescriptor.out).close();)",
        "failed",
        "died",
    ),
    (
        "reflection",
        "reads the requests",
        "TRY(new java.io.FileInputStream(java.io.FileDescriptor.in).read();)",
        "failed",
        "timeout",
    ),
    ("unsafe", "crash", _unsafe("unsafe.putAddress(0, 0);"), "died"),
    (
        "unsafe",
        "true is false",
        _unsafe(
            'unsafe.putBoolean(Boolean.TRUE, unsafe.objectFieldOffset(Boolean.class.getDeclaredField("value")), false);'
        ),
        "passed|failed",
    ),
    (
        "unsafe",
        "seven is eight",
        _unsafe(
            "unsafe.putInt((Object) Integer.valueOf(7),"
            ' unsafe.objectFieldOffset(Integer.class.getDeclaredField("value")), 8);'
        ),
        "passed|failed",
    ),
    ("jdk state", "locale", "java.util.Locale.setDefault(java.util.Locale.JAPAN);", "passed"),
    ("jdk state", "properties", "System.getProperties().clear();", "passed|failed"),
    ("jdk state", "output", "System.setOut(null); System.setErr(null);", "passed|failed"),
    ("jdk state", "handler", "Thread.setDefaultUncaughtExceptionHandler((t, e) -> System.exit(1));", "passed"),
    (
        "jdk state",
        "provider",
        'java.security.Security.removeProvider("SUN"); java.security.Security.removeProvider("SunRsaSign");',
        "passed",
    ),
    (
        "jdk state",
        "logging",
        'java.util.logging.Logger.getLogger("").setLevel(java.util.logging.Level.OFF);',
        "passed",
    ),
    ("jdk state", "addresses", "java.net.URL.setURLStreamHandlerFactory(p -> null);", "passed"),
    ("jdk state", "authenticator", "java.net.Authenticator.setDefault(new java.net.Authenticator() { });", "passed"),
    ("jdk state", "security manager", "System.setSecurityManager(null);", "failed", "failed|compile error|passed"),
    (
        "jdk state",
        "thread group",
        "Thread.currentThread().getThreadGroup().getParent().setMaxPriority(1);",
        "passed",
    ),
    ("time", "loops", "while (true) { }", "timeout"),
    ("time", "sleeps", "TRY(Thread.sleep(99999);)", "timeout"),
    ("time", "zone", 'java.util.TimeZone.setDefault(java.util.TimeZone.getTimeZone("Asia/Tokyo"));', "passed"),
    (
        "time",
        "ignores interrupts",
        "while (true) { try { Thread.sleep(99); } catch (InterruptedException e) { } }",
        "timeout",
    ),
    ("time", "of the day", "if (System.nanoTime() % 2 == 0) fail();", "passed|failed"),
    ("output", "megabytes", 'for (int i = 0; i < 9999; i++) System.out.println("x".repeat(999));', "passed"),
    ("output", "for ever", 'while (true) System.err.println("x");', "timeout"),
    (
        "output",
        "raw errors",
        "TRY(var e = new java.io.FileOutputStream(java.io.FileDescriptor.err);"
        " for (int i = 0; i < 99; i++) e.write(new byte[1 << 16]);)",
        "failed",
        "passed",
    ),
    ("output", "huge message", 'if (cart != null) throw new Error("x".repeat(1 << 24));', "failed"),
    (
        "output",
        "message that loops",
        "if (cart != null) throw new Error() { public String toString() { while (true) { } } };",
        "timeout",
    ),
    (
        "output",
        "message that exits",
        "if (cart != null) throw new Error() { public String getMessage() { System.exit(0); return null; } };",
        "failed",
        "died",
    ),
    (
        "output",
        "endless causes",
        "if (cart != null) throw new Error() { public synchronized Throwable getCause() { return new Error(this); } };",
        "failed",
    ),
    ("syntax", "leaves its method", "} public void testOther() {", "compile error"),
    ("syntax", "leaves it in disguise", "\\u007d public void testOther() \\u007b", "compile error"),
    ("syntax", "open comment", "assertEquals(7, cart.total()); /*", "compile error"),
    ("syntax", "comment in disguise", "assertEquals(7, cart.total()); \\u002f*", "compile error"),
    ("syntax", "deep", "assertEquals(7, " + "(" * 20_000 + "7" + ")" * 20_000 + ");", "compile error"),
    ("syntax", "long", "assertEquals(7, " + "1 + " * 20_000 + "1);", "compile error"),
    ("syntax", "nul", "assertEquals(7, \0cart.total());", "compile error"),
    ("syntax", "half a character", "assertEquals(7, cart\ud800.total());", "compile error"),
    ("syntax", "returns before", "if (true) return; assertEquals(7, cart.total());", "passed"),
    ("syntax", "marks its own place", "judged$.Place.reach(0);", "compile error"),
    (
        "syntax",
        "class that starts",
        "class X { static { if (true) throw new Error(); } } new X();",
        "failed|compile error",
    ),
    ("syntax", "empty", " \n\t", "compile error"),
    (
        "race",
        "writes after the test",
        'new Thread(() -> { while (true) try { Files.write(Paths.get("data/prices.txt"), new byte[9]); } catch'
        " (Exception e) { } }).start();",
        "passed",
    ),
    (
        "race",
        "deletes after the test",
        'new Thread(() -> { while (true) new java.io.File("data/prices.txt").delete(); }).start();',
        "passed",
    ),
    (
        "race",
        "holds a lock",
        'TRY(java.nio.channels.FileChannel.open(Paths.get("data/prices.txt"), java.nio.file.StandardOpenOption.WRITE)'
        ".lock();)",
        "passed",
    ),
    (
        "race",
        "holds a file",
        'TRY(new java.io.FileInputStream("data/prices.txt"); Files.delete(Paths.get("data/prices.txt"));)',
        "passed",
    ),
    (
        "race",
        "many open files",
        "TRY(java.util.List<Object> all = new java.util.ArrayList<>();"
        ' while (true) all.add(new java.io.FileInputStream("data/prices.txt"));)',
        "failed|died",
    ),
    (
        "fooling",
        "counts its runs by a closed stream",
        'boolean used = System.out.checkError(); System.out.close(); boolean first = "UTC".equals('
        "java.util.TimeZone.getDefault().getID()); assertEquals(first, !used);",
        "passed|failed",
    ),
    ("fooling", "numbers of threads", "assertEquals(0, new Thread().getId() / 2 % 2);", "passed|failed"),
    (
        "fooling",
        "numbers of lambdas",
        "String name = ((Runnable) () -> { }).getClass().getName();"
        ' assertEquals(0, Integer.parseInt(name.replaceAll(".*Lambda\\\\$(\\\\d+)/.*", "$1")) % 2);',
        "passed|failed",
    ),
    (
        "fooling",
        "order of new objects in a set",
        "Object a = new Object(), b = new Object();"
        " assertEquals(a, new java.util.HashSet<>(java.util.Arrays.asList(a, b)).iterator().next());",
        "passed|failed",
    ),
    (
        "fooling",
        "shuffled numbers",
        "java.util.List<Integer> all = java.util.Arrays.asList(1, 2); java.util.Collections.shuffle(all);"
        " assertEquals(1, (int) all.get(0));",
        "passed|failed",
    ),
    (
        "fooling",
        "rights of a class",
        "assertEquals(false, null == Cart.class.getProtectionDomain().getPermissions());",
        "passed",
    ),
    (
        "fooling",
        "origin of a class",
        "assertEquals(true, Cart.class.getProtectionDomain().getCodeSource().getLocation().getPath()"
        '.endsWith("main/"));',
        "passed",
    ),
    (
        "fooling",
        "bytes of a class",
        'TRY(assertEquals(true, Cart.class.getResourceAsStream("Cart.class").available() > 0);)',
        "passed",
    ),
    (
        "fooling",
        "remembers by a security property",
        'boolean used = "1".equals(java.security.Security.getProperty("x")); java.security.Security.setProperty("x",'
        ' "1"); assertEquals("UTC".equals(java.util.TimeZone.getDefault().getID()), !used);',
        "passed|failed",
    ),
    ("fooling", "assumes instead", "org.junit.Assume.assumeTrue(cart.total() == 8);", "skipped"),
    (
        "fooling",
        "code behind a hidden line end",
        "assertTrue(true); // \\u000a new int[1][cart.total() - 7].clone();",
        "passed",
    ),
    ("fooling", "shifted lines", "\r new int[1][cart.total() - 7].clone();\nassertTrue(true);", "passed"),
    (
        "fooling",
        "hidden end of a comment",
        "assertTrue(true); /* \\u002a\\u002f new int[1][cart.total() - 7].clone(); /* */",
        "passed",
    ),
    ("fooling", "hidden backslash", 'assertTrue("\\u005c\\" + cart.total() + "" != null);', "compile error"),
    ("threads", "stops itself", "Thread.currentThread().stop();", "failed"),
    (
        "threads",
        "stops the service",
        'for (Thread t : Thread.getAllStackTraces().keySet()) if (t.getName().equals("main")) t.stop();',
        "passed|failed|died|timeout",
    ),
    (
        "memory",
        "finalizer that loops",
        "new Object() { protected void finalize() { while (true) { } } }; System.gc();",
        "passed",
    ),
    (
        "memory",
        "text that the compiler doubles",
        'final String a0 = "0123456789abcdef"; '
        + " ".join(f"final String a{n} = a{n - 1} + a{n - 1};" for n in range(1, 30)),
        "compile error",
    ),
    (
        "output",
        "stack that is null",
        "if (cart != null) throw new Error() { public StackTraceElement[] getStackTrace() { return null; } };",
        "failed",
    ),
    (
        "output",
        "stack that loops",
        "if (cart != null) throw new Error() { public StackTraceElement[] getStackTrace() { while (true) { } } };",
        "timeout",
    ),
]


def _unchecked(code: str) -> str:
    if "TRY(" not in code:
        return code
    inner = code[code.index("TRY(") + 4 : code.rindex(")")]
    return f"try {{ {inner} }} catch (Exception e) {{ throw new RuntimeException(e); }}"


HOSTILE = [Hostile(row[0], row[1], _unchecked(row[2]), *row[3:]) for row in _ROWS]
# A few of each kind that take no second of their own: what runs by default.
QUICK = ("halt", "the parent", "shell", "common pool", "stack", "elsewhere", "out", "variable", "forges an answer")
QUICK += (
    "true is false",
    "provider",
    "zone",
    "message that exits",
    "leaves it in disguise",
    "deletes after the test",
    "numbers of threads",
    "shifted lines",
)
