"""Which engine gets a request, and what happens when that one fails.

Where to look:

- A choice is decided in `choice`, among the engines that `health` admits (outlier ejection).
- An error is decided in `failures`: what an outcome says of the engine, and whether it has computed the prompt.
- An attempt is decided in `attempts`: `AttemptLoop.next_step` says whether another engine is asked, when, or never.

These judge on frozen data, with the time as an argument. One `Balancer` per client joins what they need: the fleet (the
engines, and their refresh by discovery), the retry budget, the policy and the clock. `timers` wakes requests that have
waited long enough, `calls` holds what several requests of one call have in common. `transport` is what the OpenAI
client sees: it addresses a request (`addressing`), and hands an answer over once it is safe to (`streams`).
"""
