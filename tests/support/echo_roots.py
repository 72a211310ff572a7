"""What the extraction pipeline of echo-roots does with answers, and with our client.

The tests of this repository try it with a stand-in that is written here. Given the path of a checkout, as an argument
or in ECHO_ROOTS, the same is tried with the real code, so that both are known to lose the same items:

    python -m tests.support.echo_roots ../echo-roots

It prints a line for each thing that it has tried, and ends with 1 where one came out otherwise. No engine is needed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.doc_blocks import python_blocks
from tests.support.scripted_engine import ScriptedEngine, Whole, completion, scripted_engine
from vllm_client import CachedClient, FixedEngines, VLLMClient
from vllm_client.config import CLOUD_LIMITS, LOCAL_LIMITS
from vllm_client.echo_roots import ExtractionClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from vllm_client import LLMClient

REPOSITORY = Path(__file__).parents[2]
STAND_IN = REPOSITORY / "tests" / "stand_ins"
DOMAINS = REPOSITORY / "tests" / "data" / "echo_roots" / "domains"
DOMAIN = "shop"
PAGE = REPOSITORY / "docs" / "echo-roots.md"
ITEM = {"item_id": "1", "title": "Red cotton shirt", "description": "size M", "source": "tests", "language": "en"}
BUSY = Whole("busy", "text/plain", 503, retry_after="0.01")
"""The engine takes nothing up, and wants to be asked again soon."""
BROKEN = Whole("broken", "text/plain", 500)
"""The engine has taken the prompt up, and failed."""


class EchoRoots:
    """The modules of echo-roots that lie in a folder.

    Attributes:
        folder: What has to be on PYTHONPATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder))
        try:
            self.core: Any = importlib.import_module("echo_roots.models.core")
            self.loader: Any = importlib.import_module("echo_roots.domain.loader")
            self.extraction: Any = importlib.import_module("echo_roots.pipelines.extraction")
        finally:
            sys.path.remove(str(folder))

    def domain(self) -> Any:
        """The domain of the tests."""
        return self.loader.load_domain_pack(DOMAINS / DOMAIN / "domain.yaml")

    async def extract(self, llm: LLMClient, items: int = 1, **config: Any) -> list[Any]:
        """What the pipeline finds, once what it waits between its attempts has been taken out of it."""
        self.extraction.asyncio = Hurried()
        pipeline = self.extraction.ExtractionPipeline(DOMAINS, llm, self.extraction.ExtractorConfig(**config))
        given = [self.core.IngestionItem(**{**ITEM, "item_id": str(number)}) for number in range(items)]
        found = await pipeline.extract(given, DOMAIN)
        return list(found)


class Hurried:
    """asyncio, but for its `sleep`, which takes no time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, _: float) -> None:
        """Let others go first."""
        await asyncio.sleep(0)


def lost(result: Any) -> bool:
    """Whether the pipeline has given an item of a list up: its own sign for that."""
    return bool(result.metadata.run_id.startswith("failed_"))


# ---------------------------------------------------------------------------------------------------- which answers fit


@dataclass(frozen=True)
class Case:
    """An answer, and whether the item is lost.

    Attributes:
        name: What is the matter with it.
        answer: What the model says.
        taken: Whether the pipeline takes it from any client.
        through: Whether it takes it from ours, where that is not the same.
    """

    name: str
    answer: str
    taken: bool
    through: bool


def attribute(**changes: Any) -> dict[str, Any]:
    """A sound one with changes; None leaves a field out."""
    whole = {"name": "color", "value": "red", "evidence": "Red cotton shirt", "confidence": 0.9, **changes}
    return {key: value for key, value in whole.items() if value is not None}


def term(**changes: Any) -> dict[str, Any]:
    """A sound one with changes; None leaves a field out."""
    whole = {"term": "shirt", "context": "cotton shirt", "confidence": 0.8, **changes}
    return {key: value for key, value in whole.items() if value is not None}


def answer(*attributes: Any, terms: Any = (), **more: Any) -> str:
    """What a model says."""
    return json.dumps({"attributes": list(attributes), "terms": list(terms), **more})


def cases() -> list[Case]:
    """All of them."""
    mended = {
        "an attribute that is named twice": answer(attribute(confidence=0.4), attribute(value="blue")),
        "a fence within a text": answer(attribute(evidence="```json red```"), terms=[term(context="```a``` b")]),
    }
    taken = {
        "all is well": answer(attribute(), terms=[term()]),
        "nothing is found": answer(),
        "texts of another alphabet": answer(attribute(evidence="紅色棉質襯衫"), terms=[term(term="襯衫")]),
        "a name that the domain does not know": answer(attribute(name="sleeve", value="long")),
        "a number where one belongs": answer(attribute(name="weight", value="1.5e3")),
        "a truth where one belongs": answer(attribute(name="waterproof", value="True")),
        "a text of the domain's pattern": answer(attribute(name="sku", value="AB-12")),
        "the surest there is": answer(attribute(confidence=1), terms=[term(confidence=0)]),
    }
    refused = {
        "an attribute without a confidence, as the pipeline's own prompt shows it": answer(attribute(confidence=None)),
        "attributes as a mapping": json.dumps({"attributes": {"color": "red"}, "terms": []}),
        "terms that are texts": answer(attribute(), terms=["shirt"]),
        "a term without a confidence": answer(attribute(), terms=[term(confidence=None)]),
        "a term without a context": answer(attribute(), terms=[term(context=None)]),
        "a confidence in percent": answer(attribute(confidence=90)),
        "a confidence that is no number": answer(attribute(confidence=float("nan"))),
        "a field that nobody knows": answer(attribute(unit="cm")),
        "a value that is no text": answer(attribute(name="weight", value=5)),
        "evidence of white space": answer(attribute(evidence="  ")),
        "a value that the domain does not allow": answer(attribute(value="navy")),
        "a value in other letters than the domain's": answer(attribute(value="Red")),
        "a text longer than the domain's": answer(attribute(name="brand", value="x" * 21)),
        "a text of another pattern than the domain's": answer(attribute(name="sku", value="ab-12")),
        "a text where a number belongs": answer(attribute(name="weight", value="heavy")),
        "a text where a truth belongs": answer(attribute(name="waterproof", value="yes")),
        "a list instead of an object": "[]",
        "words instead of JSON": "It is red.",
        "half an answer": answer(attribute())[:-9],
    }
    return [
        *(Case(name, text, taken=False, through=True) for name, text in mended.items()),
        *(Case(name, text, taken=True, through=True) for name, text in {**taken, **bounds(0)}.items()),
        *(Case(name, text, taken=False, through=False) for name, text in {**refused, **bounds(1)}.items()),
    ]


def bounds(more: int) -> dict[str, str]:
    """Answers with one text of the greatest length, or of so many characters more."""
    attributes = {"name": 100, "value": 500, "evidence": 1000}
    terms = {"term": 200, "context": 1000}
    return {
        **{
            f"{key} of {size + more} characters": answer(attribute(**{"name": "other", key: "x" * (size + more)}))
            for key, size in attributes.items()
        },
        **{
            f"{key} of {size + more}": answer(terms=[term(**{key: "x" * (size + more)})]) for key, size in terms.items()
        },
    }


class Says:
    """A client that always answers so."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def complete(self, prompt: str, **_: Any) -> str:
        """The answer."""
        return self.text if prompt else ""


async def is_taken(echo: EchoRoots, case: Case) -> bool:
    """Whether the pipeline takes the answer from any client."""
    (result,) = await echo.extract(Says(case.answer), retry_attempts=0)
    return not lost(result)


async def is_taken_through_us(echo: EchoRoots, case: Case) -> bool:
    """Whether the pipeline takes the answer that an engine has given to our client."""
    async with scripted_engine(Whole(completion(case.answer))) as engine, extracting(echo, engine) as llm:
        (result,) = await echo.extract(llm, retry_attempts=0)
    return not lost(result)


@asynccontextmanager
async def extracting(echo: EchoRoots, engine: ScriptedEngine) -> AsyncIterator[ExtractionClient]:
    """Our client in front of an engine, for the domain of the tests."""
    async with ExtractionClient(VLLMClient(engine.url, "m", max_retries=0), echo.domain()) as llm:
        yield llm


# ----------------------------------------------------------------------------------------------------- how much is sent


@dataclass(frozen=True)
class Count:
    """How many requests one item costs while the engine cannot answer.

    Attributes:
        name: With which settings.
        requests: How many reach the engine.
        max_retries: Of the client.
        retry_attempts: Of the pipeline.
        engine: What it says.
        balanced: Whether the client finds it as one of the engines, as with VLLM_DISCOVERY.
    """

    name: str
    requests: int
    max_retries: int = CLOUD_LIMITS[1]
    retry_attempts: int = 3
    engine: Whole = BUSY
    balanced: bool = False


COUNTS = (
    Count("both sides' defaults, with the binding of a model", 24),
    Count("both sides' defaults, with VLLM_DEPLOYMENT_TYPE=local", 16, max_retries=LOCAL_LIMITS[1]),
    Count("only the client tries again", 6, retry_attempts=0),
    Count("only the pipeline tries again", 4, max_retries=0),
    Count("both, where engines take the prompt up and fail", 8, engine=BROKEN, balanced=True),
)


async def requests_sent(echo: EchoRoots, count: Count) -> int:
    """How many requests reach the engine for one item, which is lost."""
    async with scripted_engine(count.engine) as engine:
        source = FixedEngines((engine.url,)) if count.balanced else ""
        llm = VLLMClient(engine.url, "m", max_retries=count.max_retries, discovery=source)
        async with ExtractionClient(llm, echo.domain()) as client:
            (result,) = await echo.extract(client, retry_attempts=count.retry_attempts)
        assert lost(result)
        return len(engine.bodies)


async def second_run_asks(echo: EchoRoots, *, outside: bool) -> int:
    """How many requests the pipeline's second run over the same items sends, with a cache in or around our client."""
    async with scripted_engine(Whole(completion(answer(attribute())))) as engine:
        llm = VLLMClient(engine.url, "m")
        if outside:
            client: LLMClient = CachedClient(ExtractionClient(llm, echo.domain()), only_deterministic=False)
        else:
            client = ExtractionClient(CachedClient(llm, only_deterministic=False), echo.domain())
        await echo.extract(client)
        first = len(engine.bodies)
        await echo.extract(client)
        await llm.close()
        return len(engine.bodies) - first


# ----------------------------------------------------------------------------------------------------------- the script


@dataclass(frozen=True)
class Run:
    """How the script of the page has ended."""

    code: int
    lines: list[dict[str, Any]]
    errors: str


async def run_script(
    echo: EchoRoots,
    folder: Path,
    items: Sequence[Mapping[str, Any]],
    *,
    url: str,
    model_name: str,
    seconds: float = 120,
) -> Run:
    """Run the script of docs/echo-roots.md as a file, in a folder with the domain that it names.

    Raises:
        TimeoutError: It does not end.
    """
    (block,) = python_blocks(PAGE)[:1]
    (folder / "extract.py").write_text(block.source, encoding="utf-8")
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(dict(item))}\n" for item in items), encoding="utf-8")
    if not (folder / "domains").exists():
        (folder / "domains").symlink_to(DOMAINS)
    binding = {"VLLM_BASE_URL": url, "VLLM_MODEL_NAME": model_name, "VLLM_DEPLOYMENT_TYPE": "cloud"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "extract.py", "items.jsonl"),
        cwd=folder,
        env={**os.environ, **binding, "PYTHONPATH": str(echo.folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [json.loads(line) for line in output.decode().splitlines()]
    return Run(process.returncode or 0, lines, errors.decode())


# ---------------------------------------------------------------------------------------------------------- the program


async def all_checks(echo: EchoRoots) -> AsyncIterator[tuple[str, bool]]:
    """What has been tried, and whether it came out as it should."""
    for case in cases():
        yield f"{case.name}: {'taken' if case.taken else 'lost'}", await is_taken(echo, case) is case.taken
        told = "taken" if case.through else "refused, and asked for again"
        yield f"  through our client: {told}", await is_taken_through_us(echo, case) is case.through
    for count in COUNTS:
        yield f"{count.name}: {count.requests} requests", await requests_sent(echo, count) == count.requests
    for outside in (True, False):
        place = "around" if outside else "inside"
        yield f"a cache {place} our client: 0 requests again", await second_run_asks(echo, outside=outside) == 0
    sound = Whole(completion(answer(attribute(), terms=[term()])))
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_engine(sound) as engine:
            run = await run_script(echo, Path(folder), [ITEM], url=engine.url, model_name="m")
    yield f"the script of docs/echo-roots.md runs {run.errors}".rstrip(), (run.code, len(run.lines)) == (0, 1)


async def main(folder: Path) -> int:
    """Try everything with the code in the folder; the program's exit code."""
    echo = EchoRoots(folder)
    print(f"the pipeline in {Path(echo.extraction.__file__ or '').relative_to(folder)}")
    failed = 0
    async for told, well in all_checks(echo):
        failed += not well
        print(f"{'ok    ' if well else 'FAILED'} {told}")
    return 1 if failed else 0


def source_folder(given: str) -> Path:
    """Where the package lies in a checkout; without one, the stand-in."""
    checkout = Path(given).resolve() if given else STAND_IN
    return checkout / "src" if (checkout / "src").is_dir() else checkout


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # it is what items are lost by, which is on purpose here
    sys.exit(asyncio.run(main(source_folder(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ECHO_ROOTS", "")))))
