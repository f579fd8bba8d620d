// Package scenarios tells the stories for which people reach for an outbox, on
// real servers: each story shows the way that works, and its twin the damage
// without it, in numbers. `make story NAME=post` runs one of them and narrates it.
// README.md is the page for those who write consumers.
package scenarios
