"""medslm: the verbs around the pipeline. The pipeline itself is ``dvc repro``."""

from __future__ import annotations

import click

from medslm.verbs import pairs, registry, replies, results, running


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="medslm")
def main() -> None:
    """Turn a small medical question-answering dataset into a better small model.

    Edit params.yaml, then `medslm run` (or `dvc repro`) rebuilds what changed.
    """


for _verb in (
    running.run,
    running.profile,
    running.plan,
    results.compare,
    results.sweep,
    registry.promote,
    registry.rollback,
    registry.models,
    registry.answer,
    registry.lineage,
    registry.sync,
    pairs.review,
    pairs.export,
    pairs.data_docs,
    replies.replies,
):
    main.add_command(_verb)


if __name__ == "__main__":
    main()
