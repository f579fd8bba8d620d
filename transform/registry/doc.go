// Package registry speaks to a schema registry with Confluent's REST API:
// Confluent's own, Apicurio's under /apis/ccompat/v7, and others.
//
// It gives schemas their ids, and makes sure that an id stands for the schema
// that was asked for. Whatever can pass by itself (a network that is down, 429,
// 5xx) is tried again with growing pauses, on every URL of the list, until
// millrace.registry.timeout.ms is over. Whatever a person must change is a
// *pipeline.Refusal.
//
//	DryRun    asks about all subjects and changes nothing
//	Register  registers one schema, or finds it, and reads it back
//	Lookup    finds a schema that must be there
//
// API: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
package registry
