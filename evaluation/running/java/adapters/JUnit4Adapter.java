import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import org.junit.internal.runners.ErrorReportingRunner;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.Runner;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs one test method of JUnit 3 or 4, in all its parameterised variants; returns the status and the errors. */
public final class JUnit4Adapter implements BiFunction<Class<?>, String, Map.Entry<String, List<Throwable>>> {
    @Override
    public Map.Entry<String, List<Throwable>> apply(Class<?> testClass, String method) {
        int[] count = new int[2]; // started, and stopped by an assumption
        List<Throwable> errors = new ArrayList<>();
        JUnitCore core = new JUnitCore();
        core.addListener(new RunListener() {
            @Override
            public void testStarted(Description description) {
                count[0]++;
            }

            @Override
            public void testAssumptionFailure(Failure failure) {
                count[1]++;
            }

            @Override
            public void testFailure(Failure failure) {
                errors.add(failure.getException());
            }
        });
        Runner runner = Request.aClass(testClass).getRunner();
        if (runner instanceof ErrorReportingRunner) { // it has no tests to choose from, only the reason
            core.run(runner);
            return Map.entry("broken", errors);
        }
        int[] matched = new int[1];
        core.run(Request.runner(runner).filterWith(new Filter() {
            @Override
            public boolean shouldRun(Description item) {
                if (item.isSuite()) {
                    return item.getChildren().stream().anyMatch(this::shouldRun);
                }
                String name = item.getMethodName();
                boolean matches = name != null && (name.equals(method) || name.startsWith(method + "["));
                matched[0] += matches ? 1 : 0;
                return matches;
            }

            @Override
            public String describe() {
                return method;
            }
        }));
        if (!errors.isEmpty()) {
            return Map.entry(matched[0] == 0 ? "missing" : "failed", errors);
        }
        return Map.entry(matched[0] == 0 ? "missing" : count[0] == count[1] ? "skipped" : "passed", errors);
    }
}
