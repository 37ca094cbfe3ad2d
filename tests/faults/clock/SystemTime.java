package org.apache.kafka.common.utils;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Supplier;
import org.apache.kafka.common.errors.TimeoutException;

/** The clock of a Kafka broker, moved by the seconds in a file. Monotonic time is not moved. */
class SystemTime implements Time {
    private static final SystemTime SYSTEM_TIME = new SystemTime();
    private static final long LOOK_EVERY_MS = 50;

    private volatile long moved;

    private SystemTime() {
        Path file = Path.of(System.getProperty("clock"));
        Thread watch = new Thread(() -> follow(file), "clock");
        watch.setDaemon(true);
        watch.start();
    }

    public static SystemTime getSystemTime() {
        return SYSTEM_TIME;
    }

    @Override
    public long milliseconds() {
        return System.currentTimeMillis() + moved;
    }

    @Override
    public long nanoseconds() {
        return System.nanoTime();
    }

    @Override
    public void sleep(long ms) {
        Utils.sleep(ms);
    }

    @Override
    public void waitObject(Object object, Supplier<Boolean> condition, long deadlineMs)
            throws InterruptedException {
        synchronized (object) {
            while (!condition.get()) {
                long leftMs = deadlineMs - milliseconds();
                if (leftMs <= 0) {
                    throw new TimeoutException("the condition was not met before the deadline");
                }
                object.wait(leftMs);
            }
        }
    }

    private void follow(Path file) {
        while (true) {
            try {
                moved = 1000 * Long.parseLong(Files.readString(file).trim());
                Thread.sleep(LOOK_EVERY_MS);
            } catch (IOException | NumberFormatException | InterruptedException error) {
                throw new IllegalStateException("the clock's file cannot be read", error);
            }
        }
    }
}
