import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.ExponentialBackoffRetry;

/** One process of the hot key with Curator's InterProcessMutex: CONNECT PATH FILE TASKS WARM_UP_MS DURATION_MS */
public final class CuratorHotKey {
  public static void main(String[] args) throws Exception {
    String connect = args[0];
    String path = args[1];
    FileChannel file =
        FileChannel.open(Path.of(args[2]), StandardOpenOption.READ, StandardOpenOption.WRITE);
    int tasks = Integer.parseInt(args[3]);
    CuratorFramework client =
        CuratorFrameworkFactory.newClient(connect, new ExponentialBackoffRetry(100, 5));
    client.start();
    client.blockUntilConnected();
    long fromNs = System.nanoTime() + Long.parseLong(args[4]) * 1_000_000;
    long untilNs = fromNs + Long.parseLong(args[5]) * 1_000_000;
    AtomicLong total = new AtomicLong();
    AtomicLong measured = new AtomicLong();
    AtomicLong longestNs = new AtomicLong();
    Thread[] threads = new Thread[tasks];
    for (int task = 0; task < tasks; task += 1) {
      threads[task] = new Thread(() -> {
        InterProcessMutex mutex = new InterProcessMutex(client, path);
        try {
          while (System.nanoTime() < untilNs) {
            long askedNs = System.nanoTime();
            mutex.acquire();
            long waitedNs = System.nanoTime() - askedNs;
            try {
              addOne(file);
            } finally {
              mutex.release();
            }
            total.incrementAndGet();
            long nowNs = System.nanoTime();
            if (nowNs < fromNs || nowNs >= untilNs) continue;
            measured.incrementAndGet();
            longestNs.accumulateAndGet(waitedNs, Math::max);
          }
        } catch (Exception error) {
          error.printStackTrace();
          System.exit(1);
        }
      });
      threads[task].start();
    }
    for (Thread thread : threads) thread.join();
    client.close();
    System.out.printf("{\"total\":%d,\"measured\":%d,\"longestWaitMs\":%.3f}%n",
        total.get(), measured.get(), longestNs.get() / 1e6);
  }

  private static void addOne(FileChannel file) throws Exception {
    ByteBuffer text = ByteBuffer.allocate(20);
    file.read(text, 0);
    long count = Long.parseLong(new String(text.array(), StandardCharsets.US_ASCII).trim());
    String next = String.format("%020d", count + 1);
    file.write(ByteBuffer.wrap(next.getBytes(StandardCharsets.US_ASCII)), 0);
  }
}
