import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.Launcher;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/** Runs one test method of JUnit 5, in all its parameterised variants; returns the status and the errors. */
public final class JUnit5Adapter implements BiFunction<Class<?>, String, Map.Entry<String, List<Throwable>>> {
    @Override
    public Map.Entry<String, List<Throwable>> apply(Class<?> testClass, String method) {
        int[] matched = new int[1];
        int[] passed = new int[1];
        List<Throwable> errors = new ArrayList<>();
        PostDiscoveryFilter onlyThisMethod = descriptor -> {
            if (!(descriptor.getSource().orElse(null) instanceof MethodSource)) {
                return FilterResult.included("a container");
            }
            MethodSource source = (MethodSource) descriptor.getSource().get();
            boolean matches = source.getMethodName().equals(method) && source.getClassName().equals(testClass.getName());
            matched[0] += matches ? 1 : 0;
            return FilterResult.includedIf(matches);
        };
        Launcher launcher = LauncherFactory.create();
        launcher.execute(
                LauncherDiscoveryRequestBuilder.request()
                        .selectors(DiscoverySelectors.selectClass(testClass))
                        .filters(onlyThisMethod)
                        .build(),
                new TestExecutionListener() {
                    @Override
                    public void executionFinished(TestIdentifier item, TestExecutionResult result) {
                        if (result.getStatus() == TestExecutionResult.Status.FAILED) {
                            errors.add(result.getThrowable().orElseGet(() -> new AssertionError("failed")));
                        } else if (item.isTest() && result.getStatus() == TestExecutionResult.Status.SUCCESSFUL) {
                            passed[0]++;
                        }
                    }
                });
        if (!errors.isEmpty()) {
            return Map.entry("failed", errors);
        }
        return Map.entry(matched[0] == 0 ? "missing" : passed[0] == 0 ? "skipped" : "passed", errors);
    }
}
