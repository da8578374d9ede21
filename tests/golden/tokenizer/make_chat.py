#!/usr/bin/env python3
"""Writes chat.json.gz: chat templates of models and what Jinja makes of them.

    pip install jinja2
    make_chat.py LLAMA_CPP_DIRECTORY SMOLLM2.gguf

LLAMA_CPP_DIRECTORY is vendor/llama.cpp of the source archive of llama-cpp-python (see make_golden.py). Jinja is
set up as Hugging Face transformers does it (trim_blocks, lstrip_blocks, raise_exception), without the clock.

Layout: a list of {"name", "template", "family", "cases": [{"messages", "generate", "prompt"}]}; BOS is "<s>" in
prompts; "prompt" is null where the template refuses the messages; "family" is null for templates that are to
be refused.
"""
import gzip
import json
import re
import sys
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from make_golden import read_gguf

user, answer, system = (lambda text, role=role: {"role": role, "content": text} for role in ("user", "assistant", "system"))
PLAIN = [
    [user("Hi")],
    [system("Be brief."), user("Hi")],
    [user("Hi"), answer("Hello!"), user("And?")],
    [system("Sei kurz: „ß“."), user("Hi\nthere"), answer("Hello!"), user("And?"), answer("No."), user("猫")],
]
EDGES = [
    [system(" Be\n brief. \n"), user("  Hi \n"), answer(" Hello! \n"), user("\tAnd?\n\n")],
    [user("2+2"), answer("<think>\nhm\n</think>\n\n4"), user("3+3"), answer("\n6"), user("4+4")],
]
KNOWN = {
    "smollm2": "chatml", "qwen2": "chatml", "teknium/OpenHermes-2.5-Mistral-7B": "chatml",
    "Qwen-Qwen2.5-7B-Instruct": "chatml", "Qwen-Qwen3-0.6B": "chatml", "Qwen-QwQ-32B": "chatml",
    "Qwen3-Coder": "chatml", "MiMo-VL": "chatml", "openbmb-MiniCPM5-1B": "chatml",
    "llama-2": "llama2", "bofenghuang/vigogne-2-70b-chat": "llama2", "Llama-3": "llama3",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3", "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct": "llama3", "google/gemma-7b-it": "gemma", "google-gemma-2-2b-it": "gemma",
    "gemma-3": "gemma", "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)": "mistral-v1",
    "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)": "mistral-v1",
    "mistral-7b-v0.3": "mistral-v3", "mistralai-Mistral-Nemo-Instruct-2407": "mistral-v3",
    "mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)": "mistral-v7",
    "unsloth-mistral-Devstral-Small-2507": "mistral-v7",
}
REFUSED = ["HuggingFaceTB-SmolLM3-3B", "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "openai-gpt-oss-120b",
           "deepseek-ai-DeepSeek-V3.1", "ibm-granite-granite-4.0", "microsoft-Phi-3.5-mini-instruct", "phi-4"]
# Not in the archive: written after what these models' templates are known to do, tools and checks left out, and not
# compared with the models' own tokenizer_config.json. What is proved for them is that we render what Jinja does.
WRITTEN = {
    "llama-2": """{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "gemma-3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {{- message['content'] | trim -}}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""",
    "mistral-7b-v0.3": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
""",
}


def from_test(path):
    """The templates inside of llama.cpp's test program: C++ string literals, raw or with escapes."""
    pattern = r'/\* \.name= \*/ "([^"\n]*)",\s*/\* \.template_str= \*/ (.*?),\s*/\* \.expected'
    for name, body in re.findall(pattern, path.read_text("utf-8"), re.S):
        if raw := re.match(r'R"(\w*)\((.*)\)\1"$', body.strip(), re.S):
            yield name, raw[2]
        elif body.strip().startswith('"'):
            yield name, "".join(json.loads(x.replace("\\'", "'")) for x in re.findall(r'"(?:[^"\\]|\\.)*"', body))


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def main():
    root, smollm2 = Path(sys.argv[1]), Path(sys.argv[2])
    templates = dict(WRITTEN) | dict(from_test(root / "tests/test-chat-template.cpp"))
    templates |= {p.stem: p.read_text("utf-8") for p in (root / "models/templates").glob("*.jinja")}
    for name, path in ("smollm2", smollm2), ("qwen2", root / "models/ggml-vocab-qwen2.gguf"):
        templates[name] = read_gguf(path)["tokenizer.chat_template"].decode()
    # That archive's copy has a switch of its own behind the opened thought; the model's has not.
    templates["Qwen-QwQ-32B"] = re.sub(r"\n.*not enable_thinking.*", "", templates["Qwen-QwQ-32B"])
    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    jinja.globals["raise_exception"] = refuse
    jinja.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    out = []
    for name, family in [*KNOWN.items(), *((n, None) for n in REFUSED)]:
        cases = []
        for messages in PLAIN + EDGES if family else []:
            for generate in (True, False) if name not in ("Llama-3",) else (True,):
                try:
                    prompt = jinja.from_string(templates[name]).render(
                        messages=messages, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>")
                except jinja2.exceptions.TemplateError:
                    prompt = None
                cases.append({"messages": messages, "generate": generate, "prompt": prompt})
        out.append({"name": name, "template": templates[name], "family": family, "cases": cases})
    data = json.dumps(out, ensure_ascii=False).encode()
    (Path(__file__).parent / "chat.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(out)} templates, {sum(len(t['cases']) for t in out)} prompts")


if __name__ == "__main__":
    main()
