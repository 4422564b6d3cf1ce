"""How good a mask is on images with known truth: `trustscale evaluate`.

    plan ──▶ measure ──▶ reduce ──────────────────▶ tables ─────▶ verdict ──▶ report
    split    samples     thresholds (calibration)   intervals     sentences   page,
             σ, Ŷ, D     loss, area, PSNR (test)                              figures, files

`run` does this for one upscaler, `conduct` for all. Samples are kept on disk, so another setting of
σ or D costs no generation.
"""
