// Prints, for 10,000 keys, the partition out of 1,000,003 and out of 12 that
// Kafka's own producer chooses. The keys come from java.util.Random, a
// generator whose algorithm its documentation fixes, so that the Go test can
// make the same ones. Made with Apache Kafka 4.3.1:
//
//   java -cp 'kafka-clients-4.3.1.jar' Partitions.java > partitions.golden
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

public class Partitions {
    public static void main(String[] args) {
        Random random = new Random(20260917);
        for (int i = 0; i < 10000; i++) {
            byte[] key = new byte[random.nextInt(64)];
            for (int j = 0; j < key.length; j++) {
                key[j] = (byte) random.nextInt(256);
            }
            System.out.println(BuiltInPartitioner.partitionForKey(key, 1000003) + " " + BuiltInPartitioner.partitionForKey(key, 12));
        }
    }
}
