package sim

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// colours of the policies in plots, ours first.
var colours = []string{"#d62728", "#1f77b4", "#7f7f7f", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#bcbd22", "#e377c2"}

type plot struct {
	Title string
	SVG   template.HTML
}

type curve struct {
	name string
	x, y []float64
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) },
	"ms":      func(x float64) string { return fmt.Sprintf("%.0f", x) },
	"fine":    func(x float64) string { return fmt.Sprintf("%.3f", x) },
}).Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><title>kvasir replay</title>
<style>body{font:15px system-ui;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}</style>
<h1>kvasir replay</h1><p>{{.Title}}</p>
<table><tr><th>policy<th>hit rate<th>TTFT mean, ms<th>p50<th>p99<th>TPOT mean, ms<th>p99<th>load max/mean<th>in SLO</tr>
{{range .Results}}<tr><td>{{.Name}}<td>{{percent .HitRate}}<td>{{ms .TTFTMeanMS}}<td>{{ms .TTFTP50MS}}<td>{{ms .TTFTP99MS}}<td>{{fine .TPOTMeanMS}}<td>{{fine .TPOTP99MS}}<td>{{fine .LoadMaxOverMean}}<td>{{percent .GoodputShare}}</tr>
{{end}}</table>
{{range .Plots}}<h2>{{.Title}}</h2>{{.SVG}}
{{end}}</html>
`))

// WriteReport writes an HTML page with plots, for one trace.
func WriteReport(w io.Writer, title string, results []*Result) error {
	var ttft, load, most, hit []curve
	for _, r := range results {
		ttft = append(ttft, cdf(r))
		over := func(of func(Sample) float64) curve {
			c := curve{name: r.Name}
			for _, s := range r.Samples {
				c.x, c.y = append(c.x, s.AtSeconds), append(c.y, of(s))
			}
			return c
		}
		load = append(load, over(func(s Sample) float64 { return s.LoadMean }))
		most = append(most, over(func(s Sample) float64 { return s.LoadMax }))
		hit = append(hit, over(func(s Sample) float64 { return s.HitRate }))
	}
	plots := []plot{
		{"Share of requests with their first token by then (ms, log scale)", draw(ttft, true)},
		{"Requests on a worker, mean, over time (s)", draw(load, false)},
		{"Requests on the fullest worker over time (s)", draw(most, false)},
		{"Hit rate over time (s)", draw(hit, false)},
	}
	return page.Execute(w, map[string]any{"Title": title, "Results": results, "Plots": plots})
}

// cdf is the distribution of a run's TTFT.
func cdf(r *Result) curve {
	c := curve{name: r.Name}
	for i := range 200 {
		q := float64(i+1) / 200
		c.x, c.y = append(c.x, quantile(r.ttft, q)), append(c.y, q)
	}
	return c
}

const (
	plotWidth, plotHeight = 900.0, 320.0
	plotLeft, plotBottom  = 60.0, 40.0
)

// draw is an SVG of curves over a common x axis from the least x up, and a y axis
// from 0 up.
func draw(curves []curve, logX bool) template.HTML {
	scale := func(x float64) float64 {
		if logX {
			return math.Log10(max(x, 1))
		}
		return x
	}
	low, high, top := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range curves {
		for i := range c.x {
			low, high, top = min(low, scale(c.x[i])), max(high, scale(c.x[i])), max(top, c.y[i])
		}
	}
	if !(high > low) || top == 0 {
		return "<p>nothing to plot</p>"
	}
	px := func(x float64) float64 { return plotLeft + (scale(x)-low)/(high-low)*(plotWidth-plotLeft-150) }
	py := func(y float64) float64 { return plotHeight - plotBottom - y/top*(plotHeight-plotBottom-10) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" font-size="12">`, plotWidth, plotHeight)
	for i := range 6 {
		x, y := low+(high-low)*float64(i)/5, top*float64(i)/5
		label := x
		if logX {
			label = math.Pow(10, x)
			x = label
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%.4g</text>`, px(x), plotHeight-plotBottom+18, label)
		fmt.Fprintf(&b, `<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%.3g</text>`,
			plotLeft, plotWidth-150, py(y), py(y), plotLeft-6, py(y)+4, y)
	}
	for i, c := range curves {
		colour := colours[i%len(colours)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, colour)
		for j := range c.x {
			fmt.Fprintf(&b, "%.1f,%.1f ", px(c.x[j]), py(c.y[j]))
		}
		fmt.Fprintf(&b, `"/><text x="%g" y="%d" fill="%s">%s</text>`, plotWidth-140, 20+16*i, colour, template.HTMLEscapeString(c.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
