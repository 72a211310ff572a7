"""What fills a claim with a model before an engine starts: runs in a Job's pod, on the engine's own image.

`program.py` is the order of things, `listing.py` asks where the files are (`hub.py`, `bucket.py`, `web.py`), `fetch.py`
brings one file and checks it, `store.py` knows where it goes and says when all is there, `progress.py` counts, and
`answers.py` tells how far it is.

huggingface_hub does not do here: it writes each try into a file of a new name (2.4, `file_download.py`), so that what
was cut off begins anew, and compares sizes, no hashes.

The whole folder is mounted from a ConfigMap: standard library only, Python 3.9 and newer, relative imports.
"""
