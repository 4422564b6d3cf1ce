"""How good a mask is on images with known truth: `trustscale evaluate`.

    plan ──▶ measure ──▶ reduce ──────────────────▶ tables ─────▶ report
    split    samples     thresholds (calibration)   intervals,    figures, page,
             σ, Ŷ, D     loss, area, PSNR (test)    judgement     files

`run` is this road for one upscaler, `conduct` for all of them. Samples are drawn by the code that
serves requests and are kept on disk (`cache`), so another setting of σ or D costs no generation.
Every number of the report can be made again from the cached samples.
"""
