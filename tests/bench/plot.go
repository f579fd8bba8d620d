package main

import (
	"bytes"
	"fmt"
	"html/template"
)

// svg draws a race as bars, one per lane, with the slowest and the fastest run
// as a line over each.
var svg = template.Must(template.New("race").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{{.Height}}" font-family="sans-serif" font-size="13">
<title>{{.Title}}</title>
<rect width="860" height="{{.Height}}" fill="white"/>
<text x="10" y="22" font-weight="bold">{{.Title}}: events per second</text>
{{range .Bars}}<text x="10" y="{{.Text}}">{{.Name}}</text>
<rect x="400" y="{{.Top}}" width="{{.Width}}" height="18" fill="{{.Colour}}"/>
<line x1="{{.Low}}" x2="{{.High}}" y1="{{.Middle}}" y2="{{.Middle}}" stroke="black"/>
<text x="{{.Label}}" y="{{.Text}}">{{.Rate}}</text>
{{end}}</svg>
`))

type bar struct {
	Name, Rate, Colour                         string
	Top, Text, Middle, Width, Low, High, Label int
}

const (
	barsFrom = 400
	barsWide = 370
	barHigh  = 26
	barsTop  = 36
)

// plot draws a race.
func plot(r *race) []byte {
	most := 1.0
	for i := range r.Lanes {
		_, high := spread(r.Lanes[i].Runs)
		most = max(most, high)
	}
	wide := func(rate float64) int { return int(rate / most * barsWide) }
	var bars []bar
	for i := range r.Lanes {
		c := median(r.Lanes[i].Runs)
		low, high := spread(r.Lanes[i].Runs)
		top := barsTop + i*barHigh
		colour := "#3b7dd8"
		if r.Lanes[i].Against == "" && len(r.Lanes) > 1 {
			colour = "#999999"
		}
		bars = append(bars, bar{
			Name: r.Lanes[i].Name, Rate: thousands(c.Rate), Colour: colour, Top: top, Text: top + 14, Middle: top + 9,
			Width: wide(c.Rate), Low: barsFrom + wide(low), High: barsFrom + wide(high), Label: barsFrom + wide(high) + 6,
		})
	}
	var b bytes.Buffer
	err := svg.Execute(&b, struct {
		Title  string
		Height int
		Bars   []bar
	}{r.Log + ", " + r.Broker, barsTop + len(bars)*barHigh + 10, bars})
	if err != nil {
		return fmt.Appendf(nil, "<!-- %v -->", err)
	}
	return b.Bytes()
}
