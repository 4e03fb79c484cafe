"""Rules for the container image: what is copied into it, and how it runs."""

import ast
import re

import yaml

from app.core.settings import Settings
from tests.unit.repository import ROOT


def docker_instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def docker_final_stage() -> list[tuple[str, str]]:
    instructions = docker_instructions()
    last = max(index for index, (word, _) in enumerate(instructions) if word == "FROM")
    return instructions[last:]


def test_dockerfile_final_stage_runs_the_service_unprivileged_on_port_8000() -> None:
    stage = dict(docker_final_stage())
    assert int(stage["USER"].partition(":")[0]) >= 10_000
    assert stage["EXPOSE"] == "8000"
    assert "/healthz" in stage["HEALTHCHECK"]
    assert ast.literal_eval(stage["CMD"])[:2] == ["glimpse", "serve"]
    environment = " ".join(rest for word, rest in docker_final_stage() if word == "ENV")
    assert "GLIMPSE_ALLOW_ANYONE" not in environment  # `docker run -p 8000:8000` has to say it
    assert [word for word, _ in docker_final_stage()][-1] == "CMD"


def test_dockerfile_stages_stand_on_one_base_of_a_whole_version() -> None:
    bases = [rest.split()[0] for word, rest in docker_instructions() if word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])


def test_dockerfile_changes_nothing_behind_its_user_and_gives_no_rights() -> None:
    words = [word for word, _ in docker_final_stage()]
    assert words.count("USER") == 1
    assert not {"RUN", "COPY", "ADD"} & set(words[words.index("USER") :])
    assert "ADD" not in {word for word, _ in docker_instructions()}
    runs = " ".join(rest for word, rest in docker_instructions() if word == "RUN")
    assert not re.search(r"\b(?:sudo|setcap|setuid)\b|chmod [ugo]*\+s", runs)


def test_dockerfile_image_has_the_weights_and_neither_training_nor_tests() -> None:
    copied = " ".join(rest for word, rest in docker_instructions() if word in {"COPY", "ADD"})
    installs = " ".join(rest for word, rest in docker_instructions() if word == "RUN")
    assert (
        "COPY",
        "weights /srv/glimpse/weights",
    ) in docker_final_stage()  # whole: the models, and what they share
    assert not re.search(r"\b(training|evaluation|tests|benchmarks)\b|COPY \. ", copied)
    assert not re.search(r"\[(train|dev)\b", installs)
    assert ("ARG", "EXTRA") in docker_instructions()  # none unless it is asked for


def test_dockerignore_lets_through_what_the_dockerfile_copies() -> None:
    let_through = set(
        re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    )
    copied = {
        source
        for word, rest in docker_instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_compose_service_is_confined_and_restarts() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    service = compose["services"]["glimpse"]
    assert service["ports"] == ["127.0.0.1:${GLIMPSE_PORT:-8000}:8000"]
    assert service["environment"]["GLIMPSE_ALLOW_ANYONE"] == "true"
    assert service["read_only"] is True
    assert service["tmpfs"][0].startswith("/tmp")
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_environment_names_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    image = dict(
        pair.split("=", 1)
        for word, rest in docker_final_stage()
        if word == "ENV"
        for pair in rest.split()
    )
    names = [*compose["services"]["glimpse"]["environment"], *image]
    unknown = {name for name in names if name.startswith("GLIMPSE_")} - {
        f"GLIMPSE_{f.upper()}" for f in Settings.model_fields
    }
    assert not unknown
