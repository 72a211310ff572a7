"""`spec.model`: which model is served, where it comes from, and under which names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel, exactly_one
from vllm_operator.api.spec.core import ConfigMapKey, OptionalSecretKey
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import (
    CLAIM_SOURCE_PATTERN,
    SET,
    FilePath,
    JsonObject,
    Path,
    ServedName,
    Source,
    Word,
)

SOURCE_FORMS = (
    "an id on the Hugging Face hub such as `Qwen/Qwen2.5-0.5B-Instruct` (or `hf://` before it); `pvc://CLAIM/PATH`, a "
    "folder in a PersistentVolumeClaim; `oci://IMAGE`, the content of an image (Kubernetes 1.33 and newer); "
    "`s3://BUCKET/PATH` or `gs://BUCKET/PATH`, streamed by vLLM; or the absolute path of a folder in the engine's "
    "image or in a volume of spec.pod"
)

WEB_FORM = "With storage.cache.prefetch also `https://HOST/PATH`, a folder of a web server with a file SHA256SUMS."


def _source_rules(field: str, more: str = "") -> tuple[Rule, Rule]:
    """What a source looks like; `more` are further schemes, of which other rules say more."""
    text, given = f"self.{field}", f"has(self.{field})"
    return (
        Rule(
            f"!{given} || !{text}.contains('://') || {text}.matches('^(hf|pvc|oci|s3|gs{more})://')",
            f"spec.model.{field}: the scheme is none of hf://, pvc://, oci://, s3:// and gs://",
            field_path=f".{field}",
        ),
        Rule(
            f"!{given} || !{text}.startsWith('pvc://') || {text}.matches('{CLAIM_SOURCE_PATTERN}')",
            f"spec.model.{field} must be pvc://CLAIM or pvc://CLAIM/PATH",
            field_path=f".{field}",
        ),
    )


class ChatTemplate(Model):
    """How the messages of a chat become a prompt."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(exactly_one("spec.model.chatTemplate", "inline", "configMapKeyRef", "path")),
    )

    inline: Annotated[str, StringConstraints(min_length=1, max_length=131072)] | None = Field(
        default=None, description="The template itself, in Jinja. Its syntax is checked; it is never run here."
    )
    config_map_key_ref: ConfigMapKey | None = Field(
        default=None,
        description="ConfigMap that holds the template. The engines read it when they start; its syntax is not "
        "checked before.",
    )
    path: FilePath | None = Field(
        default=None,
        description="File in the engine's image or in a volume of spec.pod. A relative path begins at the image's "
        "working folder, where vLLM's own images have `examples/`.",
    )


class ModelSource(Model):
    """Which model is served, and under which names."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            *_source_rules("source", "|https?"),
            *_source_rules("tokenizer"),
            Rule(
                "!self.source.matches('^(pvc|oci|s3|gs|https?)://|^/') || !has(self.revision)",
                "spec.model.revision is for models on the Hugging Face hub: leave it out for any other source",
                field_path=".revision",
            ),
            Rule(
                "!(has(self.convert) && has(self.runner)) || self.runner != 'generate'"
                " || !(self.convert in ['embed', 'classify'])",
                "spec.model.convert: embed and classify make a pooling model, and spec.model.runner is generate",
                field_path=".convert",
            ),
            Rule(
                "!has(self.servedNames) || !self.servedNames.exists(name, name.contains('$('))",
                "spec.model.servedNames must not refer to a variable: clients would ask for the reference itself. "
                "Write the name",
                field_path=".servedNames",
            ),
            Rule(
                "!self.source.contains('$(') || (has(self.servedNames) && !self.source.startsWith('oci://'))",
                "spec.model.source refers to a variable, which only the engine can read: set spec.model.servedNames to "
                "the names that clients ask for. An image (oci://) cannot be named so at all",
                field_path=".source",
            ),
        ),
    )

    source: Annotated[Source, Flag("--model", "none", "0.0.1", composed=True)] = Field(
        description=f"The model: {SOURCE_FORMS}. {WEB_FORM}"
    )
    revision: Annotated[Word | None, Flag("--revision", "the default branch", "0.2.0")] = Field(
        default=None,
        description="Branch, tag or commit of the model. Pin a commit so that every replica serves the same weights.",
    )
    code_revision: Annotated[Word | None, Flag("--code-revision", "the default branch", "0.3.3")] = Field(
        default=None, description="Branch, tag or commit of the Python code that comes with the model."
    )
    tokenizer: Annotated[Source | None, Flag("--tokenizer", "the model's own", "0.1.2", composed=True)] = Field(
        default=None, description="Tokenizer, where it is not the model's own; the same forms as source."
    )
    tokenizer_revision: Annotated[Word | None, Flag("--tokenizer-revision", "the default branch", "0.2.1")] = Field(
        default=None, description="Branch, tag or commit of the tokenizer."
    )
    tokenizer_mode: Annotated[Word | None, Flag("--tokenizer-mode", "auto", "0.1.2")] = Field(
        default=None, description="Which kind of tokenizer is used, such as `auto`, `slow` or `mistral`."
    )
    load_format: Annotated[Word | None, Flag("--load-format", "auto", "0.1.5", composed=True)] = Field(
        default=None,
        description="How the weights are read, such as `safetensors`, `runai_streamer` or `dummy`. Default: vLLM's "
        "`auto`; `runai_streamer` for s3:// and gs://, unless storage.cache.prefetch brings them.",
    )
    loader_extra_config: Annotated[JsonObject | None, Flag("--model-loader-extra-config", "none", "0.4.1")] = Field(
        default=None,
        description="Settings of what reads the weights, with the names that loadFormat has for them, such as "
        "`{concurrency: 16}` of runai_streamer.",
    )
    download_dir: Annotated[Path | None, Flag("--download-dir", "the cache of Hugging Face", "0.0.1")] = Field(
        default=None,
        description="Folder for the weights that are downloaded, in a volume of spec.pod. Default: that of "
        "storage.cache.",
    )
    hf_overrides: Annotated[JsonObject | None, Flag("--hf-overrides", "none", "0.6.4")] = Field(
        default=None,
        description="What is to be otherwise than in the model's config.json. An object in it takes the place of the "
        "whole: `{rope_parameters: {rope_type: yarn, factor: 4.0, original_max_position_embeddings: 32768, rope_theta: "
        "1000000}}`.",
    )
    language_model_only: Annotated[bool | None, Flag("--language-model-only", "false", "0.17.0")] = Field(
        default=None,
        description="Serve the text part of a model that also takes images, videos or sounds, and load no other.",
    )
    served_names: Annotated[
        Annotated[list[ServedName], Field(min_length=1, max_length=16)] | None,
        Flag("--served-model-name", "the model as it is given", "0.0.1", composed=True),
    ] = Field(
        default=None,
        description="Names under which clients ask for the model; the first one is also the label of its metrics and "
        "what the binding tells clients. Default: the id on the hub, the path in the image, or the last part of any "
        "other source.",
        json_schema_extra=SET,
    )
    trust_remote_code: Annotated[bool | None, Flag("--trust-remote-code", "false", "0.1.3")] = Field(
        default=None, description="Run Python code that comes with the model. Only for models whose authors you trust."
    )
    token_secret: OptionalSecretKey | None = Field(
        default=None,
        description="Secret with a token of the Hugging Face hub, for gated and private models (HF_TOKEN).",
    )
    chat_template: Annotated[
        ChatTemplate | None, Flag("--chat-template", "the model's own", "0.2.3", composed=True)
    ] = Field(default=None, description="How the messages of a chat become a prompt, where the model has no template.")
    runner: Annotated[Literal["auto", "generate", "pooling"] | None, Flag("--runner", "auto", "0.10.1")] = Field(
        default=None,
        description="What the engine does: `generate` writes text; `pooling` embeds, scores or classifies it.",
    )
    convert: Annotated[Literal["auto", "none", "embed", "classify"] | None, Flag("--convert", "auto", "0.10.1")] = (
        Field(
            default=None,
            description="Make a pooling model out of one that generates: `embed` or `classify`. The latter takes"
            " weights with a trained head, or `hfOverrides` that name a token for each class"
            " (`classifier_from_token`, with `method`); else vLLM answers numbers without a meaning, or 400.",
        )
    )
