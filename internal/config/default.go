package config

import "time"

// Default is the configuration before file, environment and flags.
func Default() *Config {
	return &Config{
		Listen: "127.0.0.1:8000",
		Router: Router{Policy: "predicted"},
		Limits: Limits{
			Body:         32 << 20,
			InFlight:     4096,
			BodyTime:     Duration(2 * time.Minute),
			FirstByte:    Duration(5 * time.Minute),
			Idle:         Duration(time.Minute),
			QueueAhead:   Duration(100 * time.Millisecond),
			Queue:        1024,
			QueueBytes:   256 << 20,
			ClientStall:  Duration(30 * time.Second),
			EjectPercent: 50,
			Migrations:   16,
			Request:      Duration(time.Hour),
			Drain:        Duration(30 * time.Second),
		},
		Agent: Agent{
			Engine: "embedded",
			Embedded: Embedded{
				Listen:    "127.0.0.1:0",
				BlockSize: 16,
				GPUBlocks: 512,
			},
		},
		Telemetry: Telemetry{LogLevel: "info", LogFormat: "text"},
	}
}
