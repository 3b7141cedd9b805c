// Package grab is what both Go references share: the route, the pass check and the answers.
package grab

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/crypto/blake2s"
)

const route = "/v1/campaigns/bench/grabs"

// Outcomes that a Decide answers beside the serial granted.
const (
	UserLimit = -1
	SoldOut   = -2
	Failed    = -3
)

// Decide grants a coupon to a user: its serial, or one of the outcomes above.
type Decide func(user, requestID string) int64

// Serve runs until the process ends, on BENCH_PORT; passes are checked with BENCH_MAC_KEY.
func Serve(decide Decide) {
	passes := newPasses(os.Getenv("BENCH_MAC_KEY"))
	server := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			if string(ctx.Path()) != route || !ctx.IsPost() {
				ctx.SetStatusCode(404)
				return
			}
			campaign, user, ok := passes.check(ctx.Request.Header.Peek("Authorization"))
			switch {
			case !ok:
				refuse(ctx, 401, "PASS_INVALID")
			case campaign != "bench":
				refuse(ctx, 403, "PASS_OTHER_CAMPAIGN")
			default:
				answer(ctx, decide(user, string(ctx.Request.Header.Peek("Idempotency-Key"))))
			}
		},
	}
	log.Fatal(server.ListenAndServe("127.0.0.1:" + os.Getenv("BENCH_PORT")))
}

func answer(ctx *fasthttp.RequestCtx, serial int64) {
	switch serial {
	case UserLimit:
		refuse(ctx, 409, "USER_LIMIT")
	case SoldOut:
		refuse(ctx, 409, "SOLD_OUT")
	case Failed:
		refuse(ctx, 503, "BACKEND_UNAVAILABLE")
	default:
		number := strconv.FormatInt(serial, 10)
		ctx.SetStatusCode(201)
		ctx.SetContentType("application/json")
		ctx.Response.Header.Set("Location", "/v1/grabs/bench-"+number)
		ctx.WriteString(`{"grab_id":"bench-` + number + `","campaign_id":"bench","serial":` + number +
			`,"state":"GRANTED"}`)
	}
}

func refuse(ctx *fasthttp.RequestCtx, status int, code string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/problem+json")
	ctx.WriteString(`{"code":"` + code + `"}`)
}

// passes checks `v1.KID/CAMPAIGN/USER/DEVICE/EXPIRES_MS/MAC` as flashgrab/passes.py does.
type passes struct{ macs sync.Pool }

func newPasses(hexKey string) *passes {
	key, err := hex.DecodeString(hexKey)
	if err != nil {
		log.Fatal("BENCH_MAC_KEY: ", err)
	}
	return &passes{sync.Pool{New: func() any {
		mac, err := blake2s.New128(key)
		if err != nil {
			log.Fatal("BENCH_MAC_KEY: ", err)
		}
		return mac
	}}}
}

func (p *passes) check(header []byte) (campaign, user string, ok bool) {
	token, bearer := bytes.CutPrefix(header, []byte("Bearer "))
	cut := bytes.LastIndexByte(token, '/')
	if !bearer || cut < 0 {
		return "", "", false
	}
	mac := p.macs.Get().(hash.Hash)
	mac.Reset()
	mac.Write(token[:cut])
	var raw [16]byte
	var text [32]byte
	hex.Encode(text[:], mac.Sum(raw[:0]))
	p.macs.Put(mac)
	if subtle.ConstantTimeCompare(text[:], token[cut+1:]) != 1 {
		return "", "", false
	}
	fields := strings.Split(string(token[:cut]), "/")
	if len(fields) != 5 {
		return "", "", false
	}
	expires, err := strconv.ParseInt(fields[4], 10, 64)
	return fields[1], fields[2], err == nil && expires > time.Now().UnixMilli()
}
