// Decodes values in Confluent's framing by the schemas of a registry: a line of hexadecimal digits
// each on standard input, and a line of JSON each on standard output.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/hamba/avro/v2/registry"
)

func main() {
	client, err := registry.NewClient(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	decoder := registry.NewDecoder(client)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		value, err := hex.DecodeString(lines.Text())
		if err != nil {
			log.Fatal(err)
		}
		var event map[string]any
		if err := decoder.Decode(context.Background(), value, &event); err != nil {
			log.Fatal(err)
		}
		text, err := json.Marshal(event)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	}
}
