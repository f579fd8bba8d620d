package services

// Versions returns those of what is fetched, by name, without the database
// servers': they say their own.
func Versions() map[string]string {
	return map[string]string{"Apache Kafka": kafkaVersion, "Apicurio Registry": registryVersion, "Debezium": debeziumVersion}
}
