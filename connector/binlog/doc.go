// Package binlog reads the binary log of MySQL and MariaDB.
//
// [Source] implements pipeline.Source: it checks the server and its history,
// asks for the log as a replica does, and hands over whole committed
// transactions with the rows of captured tables. On the way of an event:
//
//	dump        connection, registration, raw events by go-mysql
//	stream      pushed in by the dump, pulled out by the pipeline; two buffers
//	assembler   event groups to transactions: end markers, savepoints, GTIDs
//	decoder     table maps and row images to pipeline.Row
//
// A transaction larger than a buffer is read ahead over a second connection, so
// that nothing is handed over that may still be rolled back.
//
// [Preflight] makes the checks alone, [ReadHead] tells where the log ends, and
// [SQL] prints what prepares a server.
package binlog
