package main

import (
	"bytes"
	"log"
	"net"
	"strconv"
	"syscall"
	"time"
)

// conn is one buyer's connection, with at most one request under way.
type conn struct {
	fd   int
	busy bool
	due  time.Time
	sent time.Time
	in   []byte // what has come of an answer
}

// crowd holds the connections, waits for their answers, and counts. One goroutine uses it.
type crowd struct {
	requests  [][]byte
	epoll     int
	conns     map[int32]*conn
	idle      []*conn
	open      int
	events    []syscall.EpollEvent
	buffer    []byte
	start     time.Time
	end       time.Time
	cpuBefore int64
	sent      int
	broken    int
	late      int
	waited    int
	lateMax   int
	statuses  map[int]int
	latencies []int32
	byStatus  map[int]*waits
}

// waits are those of the answers with one status, in microseconds.
type waits struct {
	due  []int32 // since the request was due
	sent []int32 // since it was sent
}

func newCrowd(address string, connections int, requests [][]byte) *crowd {
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		log.Fatal(err)
	}
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	c := &crowd{requests: requests, epoll: epoll, conns: map[int32]*conn{}, open: connections,
		events: make([]syscall.EpollEvent, 256), buffer: make([]byte, 1<<16),
		statuses: map[int]int{}, byStatus: map[int]*waits{}, latencies: make([]int32, 0, max(len(requests), 2_000_000))}
	for range connections {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			log.Fatal(err)
		}
		server := &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
		if err := syscall.Connect(fd, server); err != nil {
			log.Fatal("connect: ", err)
		}
		check(syscall.SetNonblock(fd, true))
		check(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		check(syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event))
		one := &conn{fd: fd}
		c.conns[int32(fd)] = one
		c.idle = append(c.idle, one)
	}
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	c.cpuBefore = used.Utime.Nano()/1000 + used.Stime.Nano()/1000
	c.start = time.Now()
	return c
}

// send takes an idle connection for a request. A request is smaller than any socket's buffer.
func (c *crowd) send(number int, due time.Time) {
	one := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	one.busy, one.due, one.sent = true, due, time.Now()
	c.sent++
	if n, err := syscall.Write(one.fd, c.requests[number]); err != nil || n < len(c.requests[number]) {
		c.drop(one)
	}
}

// wait takes the answers that come, for at most so long; whole milliseconds, since a shorter wait
// would be a busy one, on the core that Redis may share. So arrivals come in small bunches.
func (c *crowd) wait(longest time.Duration) {
	n, err := syscall.EpollWait(c.epoll, c.events, int((longest+time.Millisecond-1)/time.Millisecond))
	if err != nil && err != syscall.EINTR {
		log.Fatal(err)
	}
	for _, event := range c.events[:max(n, 0)] {
		c.receive(c.conns[event.Fd])
	}
}

func (c *crowd) receive(one *conn) {
	n, err := syscall.Read(one.fd, c.buffer)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n == 0 {
		c.drop(one)
		return
	}
	data := c.buffer[:n]
	if len(one.in) > 0 {
		one.in = append(one.in, data...)
		data = one.in
	}
	status, whole := parse(data)
	if !whole {
		if len(one.in) == 0 {
			one.in = append(one.in, data...)
		}
		return
	}
	one.in = one.in[:0]
	one.busy = false
	c.statuses[status]++
	now := time.Now()
	waited := int32(now.Sub(one.due).Microseconds())
	c.latencies = append(c.latencies, waited)
	of := c.byStatus[status]
	if of == nil {
		of = &waits{}
		c.byStatus[status] = of
	}
	of.due = append(of.due, waited)
	of.sent = append(of.sent, int32(now.Sub(one.sent).Microseconds()))
	c.idle = append(c.idle, one)
}

// drop takes a lost connection out; what was asked on it stays without an answer.
func (c *crowd) drop(one *conn) {
	syscall.Close(one.fd)
	delete(c.conns, int32(one.fd))
	c.broken++
	c.open--
	if !one.busy {
		for i, other := range c.idle {
			if other == one {
				c.idle = append(c.idle[:i], c.idle[i+1:]...)
				break
			}
		}
	}
}

// parse is the status of an answer, and whether all of it is there.
func parse(data []byte) (int, bool) {
	head := bytes.Index(data, []byte("\r\n\r\n"))
	if head < 0 {
		return 0, false
	}
	status, _ := strconv.Atoi(string(data[9:12]))
	length := 0
	for line := range bytes.SplitSeq(data[:head], []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("content-length")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
	}
	return status, len(data) >= head+4+length
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
