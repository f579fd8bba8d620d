// Package services brings up the real servers that tests and the demo need:
// MySQL, MariaDB, Apache Kafka (KRaft), a schema registry, and kcat.
//
// Nothing is installed into the system. Debian packages are unpacked into a
// private prefix and run through that prefix's own loader and libraries, Java
// programs come as jars from Maven, a newer Java runtime from PyPI where the
// machine's is too old. All of it is kept in [CacheDir] between runs; package
// sources are derived from the machine's own configuration.
//
// A server is shared or owned. [MySQL], [MariaDB], [Kafka] and [Registry]
// return the shared one: tests separate themselves in it by database name
// ([FreshDatabase]) and topic prefix ([FreshPrefix]) and never stop it. Its
// address comes from the environment, else from a running `make services`,
// else the server is started for the life of the test process:
//
//	MILLRACE_TEST_MYSQL     user:password@host:port of a MySQL administrator
//	MILLRACE_TEST_MARIADB   the same for MariaDB
//	MILLRACE_TEST_KAFKA     host:port[,host:port] of a plaintext listener
//	MILLRACE_TEST_REGISTRY  URL of a Confluent-compatible schema registry
//
// [OwnMySQL], [OwnMariaDB], [OwnKafka] and [OwnRegistry] start one of the
// test's own, with its own settings, that the test may stop, kill, pause and
// restart. [OwnConnect] starts a Kafka Connect with Debezium, to compare with
// and to move from. The Start functions do the same for programs.
//
// A server's process never outlives the process that started it, however
// that ends.
package services
