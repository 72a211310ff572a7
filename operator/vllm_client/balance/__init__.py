"""Which engine gets a request, and what happens when that one fails.

`choice`, `health`, `budget` and `failures` judge: pure functions on frozen data, with the time as an argument.
`fleet` knows the engines, `race` runs the attempts of one request, `transport` is what the OpenAI client sees.
"""
