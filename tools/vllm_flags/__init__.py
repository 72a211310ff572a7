"""The table of `vllm serve` arguments by release of vLLM, read out of the parsers of the releases themselves.

    python -m tools.vllm_flags            # write operator/vllm_operator/api/vllm_arguments.json anew, of all releases
    python -m tools.vllm_flags --check    # say what the newest release has that the table lacks

`fetch` gets the sources of a release from the package index by pip; `parser_program` runs the code of vLLM that makes
the parser, in a process of its own; `table` puts what all of them have into one file, a line for each argument.
"""
