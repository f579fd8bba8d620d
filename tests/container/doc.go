// Package container checks what stands in docker/ and docker-compose.yml from
// outside, without a container engine: the compose file with its own parser,
// the configuration that it mounts with the program, its database's, broker's
// and registry's settings on real servers, the rules and dashboards with
// Prometheus's own tool and the names that the program really exposes.
//
// What an engine alone could show (that the images are there, start, and find
// each other by name) it does not show. docker/image-proof builds the
// Dockerfile and runs the tests behind the build tag "image" in what comes out.
package container
