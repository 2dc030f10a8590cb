// Package telemetry sets up what every Kvasir process shows of itself: slog
// for logs, OpenTelemetry for traces, Prometheus for metrics. Packages take a
// *slog.Logger, a trace.Tracer or a prometheus.Registerer; only cmd comes here
// to make them.
package telemetry
