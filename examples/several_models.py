"""Have the model answer that suits a question's language and complexity best.

python examples/several_models.py

The models are those of the catalogue; VLLM_CATALOG names its file, where it is not mounted or read from the API server.
"""

import asyncio

from vllm_client import get_best_model

QUESTIONS = (
    ("zh-TW", "high", "請說明什麼是本體論。"),
    ("de", "low", "Was ist eine Ontologie?"),
)


async def main() -> None:
    """Ask each question of its model."""
    for language, complexity, question in QUESTIONS:
        async with get_best_model(language, complexity) as model:
            answer = await model.complete(question, max_tokens=50)
            print(f"{language}, {complexity} -> {model.model_name}: {answer}")


if __name__ == "__main__":
    asyncio.run(main())
