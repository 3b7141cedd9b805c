package main

import (
	"io"
	"log"
	"strconv"
)

// ask sends one command and reads its reply: as it is where that is a list, else as a list of one.
func (c *caller) ask(words ...string) []any {
	out := append(make([]byte, 0, 128*len(words)), '*')
	out = append(strconv.AppendInt(out, int64(len(words)), 10), '\r', '\n')
	for _, word := range words {
		out = append(strconv.AppendInt(append(out, '$'), int64(len(word)), 10), '\r', '\n')
		out = append(append(out, word...), '\r', '\n')
	}
	if _, err := c.conn.Write(out); err != nil {
		log.Fatal(err)
	}
	reply := c.read()
	if list, ok := reply.([]any); ok {
		return list
	}
	return []any{reply}
}

func (c *caller) read() any {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		log.Fatal(err)
	}
	text := line[1 : len(line)-2]
	switch line[0] {
	case ':':
		number, _ := strconv.ParseInt(string(text), 10, 64)
		return number
	case '$':
		size, _ := strconv.Atoi(string(text))
		body := make([]byte, size+2)
		if _, err := io.ReadFull(c.in, body); err != nil {
			log.Fatal(err)
		}
		return string(body[:size])
	case '*':
		size, _ := strconv.Atoi(string(text))
		list := make([]any, size)
		for i := range list {
			list[i] = c.read()
		}
		return list
	case '+':
		return string(text)
	}
	log.Fatal("Redis: ", string(text))
	return nil
}
