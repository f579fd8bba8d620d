// Package config reads the two files of Kafka Connect standalone, a worker's
// properties and connectors' JSON, with secrets resolved and origins kept.
//
// It knows keys, values, files and secrets, and never what a key is for: rooms
// take their own keys through [View], which is a pipeline.Settings, and what
// nobody takes is reported with the nearest known name.
package config
