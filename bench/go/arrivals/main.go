// Command arrivals sends requests at a fixed rate, whether or not earlier ones have been answered:
// an open loop, as a crowd is. A latency counts from the moment that a request was due, so that a
// server or a generator that falls behind is not flattered. One thread, no pauses but epoll's.
//
//	arrivals -address HOST:PORT -head FILE -requests FILE -rate N -connections N
//
// REQUESTS has two lines a request, pass and key. With -rate 0 each connection sends its next
// request when it has its answer: the generator's own ceiling, for -seconds. Prints JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"log"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

const (
	lateUS = 5000            // sent so long after it was due: late
	grace  = 5 * time.Second // for answers, once all is sent
)

type figures struct {
	Sent      int         `json:"sent"`
	Answered  int         `json:"answered"`
	Broken    int         `json:"broken"`
	Statuses  map[int]int `json:"statuses"`
	Late      int         `json:"late"`   // sends that the generator itself was too slow for
	Waited    int         `json:"waited"` // late for want of a connection: the server was too slow
	LateMaxUS int         `json:"late_max_us"`
	Micros    int64       `json:"micros"`
	CPUMicros int64       `json:"cpu_micros"`
	P50US     int         `json:"p50_us"`
	P99US     int         `json:"p99_us"`
	MaxUS     int         `json:"max_us"`
	ByStatus  map[int]of  `json:"by_status"`
}

// of is what the answers with one status took, since they were due and since they were sent.
type of struct {
	P50US     int `json:"p50_us"`
	P99US     int `json:"p99_us"`
	SentP50US int `json:"sent_p50_us"`
	SentP99US int `json:"sent_p99_us"`
}

func main() {
	address := flag.String("address", "", "of the server, HOST:PORT")
	head := flag.String("head", "", "file with the first lines of every request")
	requests := flag.String("requests", "", "file with pass and key, a line each, in order of arrival")
	rate := flag.Int("rate", 0, "requests a second; 0: a closed loop")
	connections := flag.Int("connections", 512, "most requests under way")
	seconds := flag.Float64("seconds", 10, "of a closed loop")
	flag.Parse()
	debug.SetGCPercent(-1) // all is allocated before the first request is due

	crowd := newCrowd(*address, *connections, read(*head, *requests))
	if *rate > 0 {
		crowd.arrive(*rate)
	} else {
		crowd.circle(time.Duration(*seconds * float64(time.Second)))
	}
	if err := json.NewEncoder(os.Stdout).Encode(crowd.figures()); err != nil {
		log.Fatal(err)
	}
}

// read builds every request's bytes.
func read(headFile, requestsFile string) [][]byte {
	head, err := os.ReadFile(headFile)
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.Open(requestsFile)
	if err != nil {
		log.Fatal(err)
	}
	var all [][]byte
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		pass := slices.Clone(lines.Bytes())
		lines.Scan()
		all = append(all, bytes.Join([][]byte{head, []byte("Idempotency-Key: "), lines.Bytes(),
			[]byte("\r\nAuthorization: Bearer "), pass, []byte("\r\n\r\n")}, nil))
	}
	return all
}

// arrive sends every request once, the n-th n/rate seconds after the first.
func (c *crowd) arrive(rate int) {
	starved := false // behind since a moment when no connection was free
	gap := float64(time.Second) / float64(rate)
	for next := 0; next < len(c.requests) && c.open > 0; {
		due := c.start.Add(time.Duration(float64(next) * gap))
		now := time.Now()
		if now.Before(due) {
			starved = false
			c.wait(due.Sub(now))
		} else if len(c.idle) == 0 {
			starved = true
			c.wait(time.Millisecond)
		} else {
			late := int(now.Sub(due).Microseconds())
			c.lateMax = max(c.lateMax, late)
			if late > lateUS && starved {
				c.waited++
			} else if late > lateUS {
				c.late++
			}
			c.send(next, due)
			next++
			if next%64 == 0 {
				c.wait(0) // a late generator must not leave answers lying
			}
		}
	}
	c.finish()
}

// circle sends as fast as the answers come.
func (c *crowd) circle(length time.Duration) {
	for next := 0; time.Since(c.start) < length && c.open > 0; {
		for ; len(c.idle) > 0; next++ {
			c.send(next%len(c.requests), time.Now())
		}
		c.wait(time.Millisecond)
	}
	c.finish()
}

func (c *crowd) finish() {
	for end := time.Now().Add(grace); len(c.idle) < c.open && time.Now().Before(end); {
		c.wait(time.Millisecond)
	}
	c.end = time.Now()
}

func (c *crowd) figures() figures {
	slices.Sort(c.latencies)
	at := func(percent int) int { return share(c.latencies, percent) }
	byStatus := map[int]of{}
	for status, found := range c.byStatus {
		slices.Sort(found.due)
		slices.Sort(found.sent)
		byStatus[status] = of{share(found.due, 50), share(found.due, 99),
			share(found.sent, 50), share(found.sent, 99)}
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return figures{
		Sent: c.sent, Answered: len(c.latencies), Broken: c.broken, Statuses: c.statuses,
		Late: c.late, Waited: c.waited, LateMaxUS: c.lateMax, Micros: c.end.Sub(c.start).Microseconds(),
		CPUMicros: used.Utime.Nano()/1000 + used.Stime.Nano()/1000 - c.cpuBefore,
		P50US:     at(50), P99US: at(99), MaxUS: at(100), ByStatus: byStatus,
	}
}

// share is a percentile of what is sorted.
func share(sorted []int32, percent int) int {
	if len(sorted) == 0 {
		return 0
	}
	return int(sorted[min(len(sorted)-1, len(sorted)*percent/100)])
}
