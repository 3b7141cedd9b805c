// Command batched is Go given what Flashgrab does: the grabs that wait are one call of lua/grab.lua,
// and while it is under way the next batch fills. One call at a time was cheaper here than two.
package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"log"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"

	"flashgrab/bench/grab"
)

const batchMax = 1000

type request struct {
	user, id string
	serial   chan int64
}

func main() {
	script, err := os.ReadFile(os.Getenv("BENCH_SCRIPT"))
	if err != nil {
		log.Fatal(err)
	}
	queue := make(chan *request, 4096)
	go newCaller(string(script)).run(queue)
	free := sync.Pool{New: func() any { return &request{serial: make(chan int64, 1)} }}
	grab.Serve(func(user, id string) int64 {
		r := free.Get().(*request)
		r.user, r.id = user, id
		queue <- r
		serial := <-r.serial
		free.Put(r)
		return serial
	})
}

// caller has one connection, and one call on it at a time.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	head []string // EVALSHA … and the seven arguments that every call begins with
}

func newCaller(script string) *caller {
	conn, err := net.Dial("tcp", os.Getenv("BENCH_REDIS"))
	if err != nil {
		log.Fatal(err)
	}
	c := &caller{conn: conn, in: bufio.NewReaderSize(conn, 1<<16)}
	c.ask("SCRIPT", "LOAD", script)
	info, _ := c.ask("INFO", "server")[0].(string)
	_, run, _ := strings.Cut(info, "run_id:")
	run, _, _ = strings.Cut(run, "\r\n")
	round := "{c:bench}:r:1"
	closes, _ := c.ask("HGET", round, "closes_at")[0].(string)
	sha := sha1.Sum([]byte(script))
	c.head = []string{"EVALSHA", hex.EncodeToString(sha[:]), "6",
		"{c:bench}", "{c:bench}:holders", "{c:bench}:devices", "{c:bench}:outbox", round, round,
		"1", "1", run, "0", "1", "0", closes}
	return c
}

func (c *caller) run(queue <-chan *request) {
	batch := make([]*request, 0, batchMax)
	words := append(make([]string, 0, len(c.head)+3*batchMax), c.head...)
	for first := range queue {
		batch = append(batch[:0], first)
		runtime.Gosched() // those who are ready to ask do so first
		for more := true; more && len(batch) < batchMax; {
			select {
			case next := <-queue:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		words = words[:len(c.head)]
		for _, r := range batch {
			words = append(words, r.user, "", r.id)
		}
		reply := c.ask(words...)
		for i, r := range batch {
			r.serial <- outcome(reply, 7+i)
		}
	}
}

// outcome reads a result of lua/grab.lua. A replay and a user's limit are both "not again" here.
func outcome(reply []any, at int) int64 {
	if reply[0] != int64(0) {
		return grab.Failed
	}
	switch result := reply[at].(type) {
	case int64:
		if result > 0 {
			return result
		}
		return grab.SoldOut
	default:
		return grab.UserLimit
	}
}
