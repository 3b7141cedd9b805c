// Command pipelined is the reference in Go: fasthttp, and rueidis that pipelines by itself what is
// asked at the same time. One EVALSHA a request, of the same script as the other references.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/redis/rueidis"

	"flashgrab/bench/grab"
)

func main() {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:  []string{os.Getenv("BENCH_REDIS")},
		DisableCache: true,
		// One connection, and 20 µs for more to come along: measured as the cheapest of rueidis' ways.
		PipelineMultiplex: -1,
		MaxFlushDelay:     20 * time.Microsecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	source, err := os.ReadFile(os.Getenv("BENCH_SCRIPT"))
	if err != nil {
		log.Fatal(err)
	}
	script := rueidis.NewLuaScript(string(source))
	keys := []string{"{bench}:stock", "{bench}:holders", "{bench}:outbox"}
	grab.Serve(func(user, requestID string) int64 {
		serial, err := script.Exec(context.Background(), client, keys, []string{user, requestID}).AsInt64()
		if err != nil {
			return grab.Failed
		}
		return serial
	})
}
