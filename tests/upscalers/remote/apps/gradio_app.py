"""A Gradio app with an upscaler, one that raises gr.Error, and one that breaks."""

import os

import gradio as gr
import numpy as np
from model import upscale


def run(image, seed, scale):
    if image is None:
        raise gr.Error("no image")
    if seed == 13:
        raise RuntimeError("boom")
    return upscale(np.asarray(image), int(seed), int(scale))


def out_of_quota(image):
    raise gr.Error("You have exceeded your GPU quota (60s requested vs. 0s left).")


with gr.Blocks() as app:
    image = gr.Image(type="numpy")
    seed, scale = gr.Number(), gr.Number(2)
    result = gr.Image(format="png")
    gr.Button("go").click(run, [image, seed, scale], result, api_name="upscale")
    gr.Button("quota").click(out_of_quota, [image], result, api_name="quota")

app.queue(max_size=8, default_concurrency_limit=2)
app.launch(server_name="127.0.0.1", server_port=int(os.environ["PORT"]), quiet=True)
