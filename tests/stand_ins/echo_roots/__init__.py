"""A stand-in for echo-roots: what a program that extracts needs of it, written anew from what its code does.

It has the names, fields, bounds and rules of commit 06c7377, and loses an item where that loses one; the program
`tests.support.echo_roots` holds both against each other. The real one needs Python 3.13 and more packages than the
tests of this repository have.
"""
