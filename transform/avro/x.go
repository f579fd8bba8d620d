package avro
const maxDepth = 64
