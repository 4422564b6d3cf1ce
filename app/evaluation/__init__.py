"""How good a mask is on images with known truth: `trustscale evaluate`.

    images ─▶ plan ─▶ samples ─▶ maps ─▶ staircases ─▶ risk curve ─▶ thresholds   (calibration)
              split   (cached)    σ, D  └▶ loss, area, PSNR at each threshold     (test)
                                              └▶ tables, intervals, figures ─▶ report

Samples are drawn by the code that serves requests and are kept on disk, so another setting of σ or
D costs no generation. Every number of the report can be made again from the cached samples.
"""
