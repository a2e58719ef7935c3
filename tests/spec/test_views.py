"""Pictures of a pipeline."""

from __future__ import annotations

from llamapipe.spec import dot, load_yaml, mermaid, tree
from tests.spec.kit import BLUR_FACES, MANIFESTS

SPEC = load_yaml(BLUR_FACES).spec
CONDITIONAL = load_yaml(
    """\
name: p
ops:
  - {name: end, type: detect, inputs: $source.frames, labels: ['a "b"', '<c>']}
  - {name: what, type: classify, inputs: $source.frames, when: 'any($ops.end.boxes, label == "x")'}
"""
).spec


def test_the_tree_shows_every_stage_once_below_what_it_reads_last():
    assert (
        tree(SPEC, MANIFESTS)
        == """\
blur-faces  (p95<=200ms, accuracy>=0.9)
source
└── people  detect  person-detection
    └── crops  crop  fans out  reads source.frames too
        └── faces  detect  face-detection
            └── blurred  blur  reads source.frames too
                └── video  annotated.mp4
"""
    )


def test_branches_are_drawn_side_by_side():
    text = BLUR_FACES + "  - {type: jsonl, inputs: [$ops.people.boxes, $ops.people.boxes]}\n"
    assert "    ├── crops" in tree(load_yaml(text).spec)
    assert "    └── jsonl\n" in tree(load_yaml(text).spec)


def test_mermaid_marks_fan_outs_and_conditions():
    text = mermaid(SPEC, MANIFESTS)
    assert text.startswith("flowchart LR\n")
    assert '  stage0["<b>people</b><br/>detect<br/>person-detection"]' in text
    assert '  stage1 ==>|"frames, one each"| stage2' in text
    assert '  stage3 -->|"frames"| sink0' in text
    assert '  stage0 -.->|"when"| stage1' in mermaid(CONDITIONAL)


def test_labels_are_escaped_and_ids_are_no_words_of_the_renderer():
    text = mermaid(CONDITIONAL)
    assert "labels=a #quot;b#quot;, #lt;c#gt;" in text
    assert "<b>end</b>" in text
    assert "  end" not in text
    assert 'label="end\\ndetect\\nlabels=a \\"b\\", <c>"' in dot(CONDITIONAL)


def test_dot_marks_fan_outs_and_conditions():
    text = dot(SPEC, MANIFESTS)
    assert text.startswith('digraph "blur-faces" {\n')
    assert text.endswith("}\n")
    assert '  stage1 -> stage2 [label="frames, one each", style=bold];' in text
    assert "style=dashed];" in dot(CONDITIONAL)
