"""Where the benchmarks' annotation and videos are published, and where they go to be as `weavetime eval` reads them.

Ids and layouts were read in the benchmarks' own repositories and in public code that fetches them, not on the hubs:
`unverified` says what no such source showed. Annotation on GitHub is taken at the commit that the benchmark was written
against.
"""

from __future__ import annotations

from .entry import DataSet, Part

_EGO4D = (
    "the videos are Ego4D's: sign its licence agreement first (ego4d-data.org); to fetch copies from a hub does not "
    "replace that"
)
_SIZE = "see its page; --dry-run adds it up"
_SAMPLE = r"\.zip/(?:.*/)?sample_(\d+)/video\.mp4"  # StreamingBench's archives hold a folder a video

BENCHMARKS = (
    DataSet(
        name="ovo_bench",
        about="OVO-Bench: annotation, and the source videos that its clips are cut from",
        licence="CC BY-NC-SA 4.0, and those of the videos' sources",
        size="about 46 GB",
        parts=(
            Part(
                {"github": "JoeLeelyf/OVO-Bench@c34093f"},
                patterns=("data/ovo_bench_new.json",),
                places=((r"data/(ovo_bench_new\.json)", r"\1"),),
            ),
            Part(
                {"hf": "JoeLeelyf/OVO-Bench"},
                patterns=("src_videos.tar*",),
                places=((r"src_videos\.tar/(?:.*/)?src_videos/(.+)", r"videos/\1"),),
            ),
        ),
    ),
    DataSet(
        name="streaming_bench",
        about="StreamingBench: annotation as its code reads it, and the videos of all four parts",
        licence="MIT, as its code's; the data state none of their own",
        size=_SIZE,
        parts=(
            Part(
                {"github": "THUNLP-MT/StreamingBench@8929923"},
                patterns=("src/data/questions_*.json",),
                places=((r"src/data/(questions_(?:real|omni|sqa|proactive|proactive_50)\.json)", r"\1"),),
            ),
            Part(
                {"hf": "mjuicem/StreamingBench"},
                patterns=("*.zip",),
                places=(
                    (r"Real-Time Visual Understanding_[\d-]+" + _SAMPLE, r"videos/sample_\1_real.mp4"),
                    (r"Sequential Question Answering_[\d-]+" + _SAMPLE, r"videos/sample_\1_sqa.mp4"),
                    (r"Proactive Output_[\d-]+" + _SAMPLE, r"videos/sample_\1_proactive.mp4"),
                    (r"([A-Z][a-z]+) ([A-Z][a-z]+)(_[\d-]+)?" + _SAMPLE, r"videos/sample_\4_\1_\2\3.mp4"),
                    (r"([A-Z][a-z]+) (Context) (Understanding)" + _SAMPLE, r"videos/sample_\4_\1_\2_\3.mp4"),
                ),
            ),
        ),
    ),
    DataSet(
        name="mlvu",
        about="MLVU: annotation and videos of the development set's seven multiple-choice tasks",
        licence="CC BY-NC-SA 4.0, for research only",
        size=_SIZE,
        agreement="gated on the public hub: accept the terms on hf.co/datasets/MLVU/MVLU, then `hf auth login`",
        parts=(
            Part(
                {"github": "JUNJIE99/MLVU@fd060c1"},
                patterns=("data/[1-7]_*.json",),
                places=((r"data/([1-7]_\w+\.json)", r"\1"),),
            ),
            Part(
                {"hf": "MLVU/MVLU", "modelscope": "AI-ModelScope/MLVU"},
                patterns=("*video/[1-7]_*",),
                places=(
                    (r"(?:.*/)?video/([1-7]_\w+)/([^/]+)", r"videos/\1/\2"),
                    (r"(?:.*/)?video/([1-7]_\w+?)\.(?:zip|tar)/(?:.*/)?([^/]+)", r"videos/\1/\2"),
                ),
            ),
        ),
        unverified="that ModelScope's copy has the public hub's folders",
    ),
    DataSet(
        name="qaego4d",
        about="QAEgo4D, multiple choice: annotation and videos as ReKV published them",
        licence="Ego4D's licence agreement",
        size=_SIZE,
        agreement=_EGO4D,
        parts=(
            Part(
                {"hf": "Becomebright/QAEgo4D-MC-test"},
                places=((r"test_mc\.json", "test_mc.json"), (r"(?:.*/)?([^/]+\.mp4)", r"videos/\1")),
            ),
        ),
    ),
    DataSet(
        name="event_hallusion",
        about="EventHallusion: the questions of the three splits",
        licence="none stated",
        size="260 kB without videos",
        by_hand="videos: the archive on Google Drive that github.com/Stevetich/EventHallusion links to, unpacked so "
        "that there are videos/entire/, videos/interleave/ and videos/misleading/",
        parts=(
            Part(
                {"github": "Stevetich/EventHallusion@3c7efa19299539b74441d3af9c439e685f3168a3"},
                patterns=("questions/*_questions.json",),
                places=((r"questions/((?:entire|interleave|misleading)_questions\.json)", r"\1"),),
            ),
        ),
    ),
    DataSet(
        name="egoschema",
        about="EgoSchema: questions, the 500 public answers, and the clips",
        licence="none stated",
        size=_SIZE,
        agreement=_EGO4D,
        parts=(
            Part(
                {"github": "egoschema/EgoSchema@505c787376b5e066d0ae406d0e0d41245cebba15"},
                patterns=("questions.json", "subset_answers.json"),
            ),
            Part(
                {"hf": "lmms-lab/egoschema", "modelscope": "AI-ModelScope/egoschema"},
                patterns=("videos_chunked_*.zip",),
                places=((r"videos_chunked_\d+\.zip/(?:.*/)?([^/]+\.mp4)", r"videos/\1"),),
            ),
        ),
    ),
    DataSet(
        name="cg_bench",
        about="CG-Bench: annotation of the mini set, and the videos",
        licence="MIT, as its card says; the videos for academic research only, copyright with their makers",
        size=_SIZE,
        agreement="gated on the public hub: accept the terms on hf.co/datasets/CG-Bench/CG-Bench, then `hf auth login`",
        parts=(
            Part(
                {"hf": "CG-Bench/CG-Bench", "modelscope": "CG-Bench/CG-Bench"},
                patterns=("cgbench_mini.json", "video*.zip"),
                places=(
                    (r"cgbench_mini\.json", "cgbench_mini.json"),
                    (r"video[^/]*\.zip/(?:.*/)?cg_videos_720p/([^/]+\.mp4)", r"videos/\1"),
                ),
                pieces=r"(?P<whole>video[^/]*?)_?chunk_(?P<number>\d+)\.zip",
            ),
        ),
        unverified="the full names of the video archive's pieces, of which `video…chunk_N.zip` is known",
    ),
    DataSet(
        name="activitynet_qa",
        about="ActivityNet-QA, test: questions and answers as published, and the videos in lmms-lab's copy",
        licence="Apache-2.0; the videos are their makers' on YouTube",
        size=_SIZE,
        parts=(
            Part(
                {"github": "MILVLG/activitynet-qa@2cf80ae"},
                patterns=("dataset/test_*.json",),
                places=((r"dataset/(test_[qa]\.json)", r"\1"),),
            ),
            Part(
                {"hf": "lmms-lab/ActivityNetQA"},
                patterns=("*.zip",),
                places=((r".*\.zip/(?:.*/)?(v_[^/]+\.(?:mp4|mkv|webm))", r"videos/\1"),),
            ),
        ),
    ),
    DataSet(
        name="rvs",
        about="RVS-Ego and RVS-Movie as ReKV published them",
        licence="none stated; Ego4D's and MovieNet's hold for the videos",
        size=_SIZE,
        agreement=f"{_EGO4D}; MovieNet has terms of its own (movienet.github.io)",
        by_hand="the movies come as arrays of one frame a second (.npy): make each a video of one frame a second, "
        "movie/videos/NAME.mp4",
        parts=(
            Part(
                {"hf": "Becomebright/RVS"},
                places=(
                    (r"(ego/ego4d_oe|movie/movienet_oe)\.json", r"\1.json"),
                    (r"(ego|movie)/(?:.*/)?([^/]+\.(?:mp4|npy))", r"\1/videos/\2"),
                ),
            ),
        ),
        unverified="how the videos lie in the repository; below ego/ and movie/ they may be files or archives",
    ),
    DataSet(
        name="vidhalluc",
        about="VidHalluc: annotation and clips of ACH's multiple choice",
        licence="see its page",
        size=_SIZE,
        parts=(
            Part(
                {"hf": "chaoyuli/VidHalluc"},
                patterns=("ach_mcq.json", "data/ACH_videos.zip"),
                places=(
                    (r"ach_mcq\.json", "ach_mcq.json"),
                    (r"data/ACH_videos\.zip/(?:.*/)?([^/]+\.mp4)", r"videos/\1"),
                ),
            ),
        ),
    ),
)
