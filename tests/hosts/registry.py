"""All hosts, one line each."""

from __future__ import annotations

from functools import partial

from . import (
    apart,
    copies,
    detection,
    distributed,
    forwards,
    quantised,
    rebuilt,
    reparam,
    traced,
    trainers,
    yolo,
    yolo_v5,
)
from .host import Host
from .networks import CONVS, NORMS, Placements

_graph = partial(Host, build=traced.graph, placements=traced.GRAPH)
_dual = partial(Host, build=traced.dual_graph, placements=traced.GRAPH)
_timm = partial(Host, build=traced.timm_resnet, placements=traced.FEATURES)
_pooled = partial(_timm, expected=apart.flowing_into("global_pool"))
_sequential = partial(Host, build=apart.sequential, placements=apart.SLICE)
_cut = partial(Host, placements=apart.CUT, expected=apart.flowing_into("avgpool"))
_norms = partial(Host, placements=NORMS)
_convs = partial(Host, placements=CONVS)
_spectral = partial(_convs, build=rebuilt.normed, tolerance=0.01)
_bound = partial(Host, build=forwards.bound_first)
_resnet = partial(Host, build=detection.resnet, placements=detection.LAYERS, example=detection.image)
_retina = partial(
    Host, build=detection.retinanet, placements=detection.WHOLE, example=detection.images, expected=detection.features
)
_v5 = partial(Host, build=yolo_v5.Yolo, placements=yolo_v5.CONV)
_fused = partial(Host, build=yolo_v5.fused_first, placements=yolo_v5.CSP)
_yolo = partial(
    Host, build=yolo.detector, example=yolo.image, expected=yolo.boxes, needs=("ultralytics",), around=yolo.offline
)
_still = partial(Host, build=trainers.still, around=trainers.alone, block="se")
_lightning = partial(_still, needs=("lightning",))
_hf = partial(
    Host,
    build=trainers.classifier,
    placements=trainers.HF,
    expected=trainers.logits,
    needs=("transformers",),
    around=trainers.alone,
    block="se",
)
_alone = partial(Host, around=trainers.alone)
_world = partial(Host, around=distributed.world)

HOSTS = (
    Host("copy.deepcopy", "copies", copies.deepcopied),
    Host("copy.copy", "copies", copies.copied),
    Host("pickle", "copies", copies.pickled),
    Host("torch.save of the model", "copies", copies.torch_saved),
    Host("swa_utils.AveragedModel", "copies", copies.swa_averaged),
    Host("timm ModelEmaV3", "copies", copies.timm_ema),
    Host("to('meta'), to_empty, load_state_dict", "copies", copies.meta_filled),
    Host("load_state_dict into a new network", "copies", copies.reloaded_state),
    Host("model.double()", "copies", copies.double),
    Host("model.half()", "copies", copies.half, tolerance=0.05),
    Host("channels_last", "copies", copies.channels_last),
    _graph("fx.GraphModule: deepcopy", "graphs", copies.deepcopied),
    _graph("fx.GraphModule: pickle", "graphs", copies.pickled),
    _graph("fx.GraphModule: recompile", "graphs", traced.recompiled),
    _graph("fx.GraphModule: a pass over the graph", "graphs", traced.edited),
    _graph("fx.GraphModule: Transformer", "graphs", traced.transformed),
    _graph("fx.GraphModule: Interpreter", "graphs", traced.interpreted),
    _graph("fx.GraphModule: AveragedModel", "graphs", copies.swa_averaged),
    _graph("fx.GraphModule: symbolic_trace", "graphs", traced.symbolically_traced),
    _graph("fx.GraphModule: conv-bn fusing", "graphs", rebuilt.fx_fused),
    _dual("DualGraphModule: deepcopy, eval", "graphs", traced.copied_to_eval),
    _dual("DualGraphModule: train and back", "graphs", forwards.train_and_back),
    _dual("DualGraphModule: in train mode", "graphs", traced.in_train_mode, expected=traced.run_training),
    _dual("DualGraphModule: pickle", "graphs", copies.pickled),
    _dual("DualGraphModule: recompile", "graphs", traced.recompiled),
    _norms("nn.SyncBatchNorm.convert_sync_batchnorm", "rebuilt", rebuilt.sync_batchnorm),
    _norms("timm convert_sync_batchnorm", "rebuilt", rebuilt.timm_sync_batchnorm),
    _norms("torchvision FrozenBatchNorm2d", "rebuilt", rebuilt.frozen_batchnorm),
    _norms("timm freeze_batch_norm_2d", "rebuilt", rebuilt.timm_frozen_batchnorm),
    _norms("fuse_conv_bn_eval, at norms", "rebuilt", rebuilt.conv_bn_fused),
    _convs("fuse_conv_bn_eval, at convolutions", "rebuilt", rebuilt.conv_bn_fused),
    _norms("fx conv-bn fusing, at norms", "rebuilt", rebuilt.fx_fused),
    _convs("fx conv-bn fusing, at convolutions", "rebuilt", rebuilt.fx_fused),
    Host("timm reparameterize_model", "rebuilt", rebuilt.reparameterized, reparam.mobileone, reparam.TIMM),
    Host("LeViT's replace_batchnorm", "rebuilt", rebuilt.replaced_batchnorm, reparam.levit, reparam.LEVIT),
    Host("RepVGG's switch_to_deploy", "rebuilt", rebuilt.deployed, reparam.repvgg, reparam.DEPLOY),
    _convs("parametrize", "rebuilt", rebuilt.parametrized),
    _convs("parametrize, and removed", "rebuilt", rebuilt.unparametrized),
    _convs("weight_norm", "rebuilt", rebuilt.weight_norm),
    _convs("weight_norm, the older", "rebuilt", rebuilt.legacy_weight_norm),
    _spectral("spectral_norm", "rebuilt", rebuilt.spectral_norm),
    _spectral("spectral_norm, the older", "rebuilt", rebuilt.legacy_spectral_norm),
    _convs("prune", "rebuilt", rebuilt.pruned),
    _convs("prune, and remove", "rebuilt", rebuilt.pruned_for_good),
    Host("a subclass of each module's class", "rebuilt", rebuilt.subclassed),
    Host("a subclass of the class it was written in", "rebuilt", rebuilt.class_swapped),
    Host(
        "another class", "rebuilt", rebuilt.class_replaced, placements=Placements("block", "block.bn2", "block.conv2")
    ),
    Host("a closure around every forward", "forwards", forwards.closed_over),
    Host("a closure around the network's forward", "forwards", forwards.root_closed_over),
    Host("a method around every forward", "forwards", forwards.bound),
    Host("the class's forward bound to the object", "forwards", forwards.bound_to_class),
    Host("a callable object as every forward", "forwards", forwards.callable_objects),
    Host("functools.partial as every forward", "forwards", forwards.partials),
    Host("a module around the network", "forwards", forwards.module_around),
    Host("a module around each child", "forwards", forwards.modules_around_children),
    Host("another forward, bound", "forwards", forwards.replaced),
    Host("another forward, a function", "forwards", forwards.replaced_by_function),
    Host("another forward on the class", "forwards", forwards.replaced_on_class, around=forwards.class_restored),
    Host("hooks on every module", "forwards", forwards.hooked),
    Host("gradient checkpointing", "forwards", forwards.checkpointed),
    Host("checkpoint_wrapper", "forwards", forwards.checkpoint_wrapped),
    Host("torch.func.functional_call", "forwards", forwards.functional),
    _alone("accelerate cpu_offload", "forwards", forwards.offloaded),
    _alone("accelerate prepare, bf16", "forwards", forwards.fp32_outputs, tolerance=0.1),
    _alone("accelerate prepare and unwrap", "forwards", forwards.unwrapped),
    _bound("a method around every forward first", "forwards", forwards.as_it_is),
    _bound("a method around every forward first, then unwrapped", "forwards", forwards.unbound),
    _bound("a method around every forward first, then deleted", "forwards", forwards.undone),
    _alone("accelerate hooks first", "forwards", forwards.as_it_is, forwards.accelerate_first),
    _alone("accelerate hooks first, then removed", "forwards", forwards.unhooked, forwards.accelerate_first),
    Host("torch.fx.symbolic_trace", "traced", traced.symbolically_traced),
    Host("torchvision create_feature_extractor", "traced", traced.feature_extractor),
    _pooled("timm FeatureGraphNet", "traced", traced.feature_graph),
    Host("torch.jit.trace", "traced", traced.jit_traced),
    Host("torch.jit.script", "traced", traced.jit_scripted),
    Host("torch.jit.script and freeze", "traced", traced.jit_frozen),
    Host("torch.compile, eager", "traced", traced.compiled("eager")),
    Host("torch.compile, aot_eager", "traced", traced.compiled("aot_eager")),
    Host("model.compile", "traced", traced.compiled_in_place),
    Host("torch.export", "traced", traced.exported),
    Host("torch.export, saved and loaded", "traced", traced.exported_and_loaded),
    Host("torch.export.unflatten", "traced", traced.unflattened),
    Host("torch.onnx.export", "traced", traced.onnx),
    _world("DistributedDataParallel", "distributed", distributed.ddp),
    Host("DataParallel", "distributed", distributed.data_parallel),
    _world("FSDP2 fully_shard", "distributed", distributed.fully_sharded),
    _world("FSDP1", "distributed", distributed.fsdp1),
    _cut("Sequential(*children()[:-2])", "apart", apart.children_cut),
    _cut("torchvision IntermediateLayerGetter", "apart", apart.named_children_cut),
    _cut("calls of the network's stages", "apart", apart.submodule_called),
    _sequential("a slice of a Sequential", "apart", apart.sliced, expected=apart.flowing_into("2")),
    _sequential("iteration over a Sequential", "apart", apart.iterated),
    _sequential("indices of a Sequential", "apart", apart.indexed),
    _sequential("Sequential(*network, more)", "apart", apart.extended),
    Host("append to a Sequential", "apart", apart.appended),
    Host("another head", "apart", apart.head_replaced, placements=apart.HEAD, block="se"),
    Host("the head dropped", "apart", apart.head_dropped, expected=apart.flowing_into("fc"), placements=apart.CUT),
    _pooled("timm FeatureListNet", "apart", apart.feature_list),
    _pooled("timm FeatureHookNet", "apart", apart.feature_hooks),
    Host("timm forward_intermediates", "apart", apart.intermediates),
    _timm("timm forward_features", "apart", apart.pooled_features),
    _timm("timm reset_classifier", "apart", apart.head_reset, expected=apart.flowing_into("fc")),
    _resnet("torchvision detection's pyramid", "apart", detection.pyramid, expected=apart.flowing_into("avgpool")),
    _retina("torchvision RetinaNet: a copy", "apart", detection.kept_whole),
    _retina("torchvision RetinaNet: FrozenBatchNorm2d", "apart", detection.norms_frozen),
    Host("torch.ao quantize_dynamic", "quantised", quantised.dynamic, tolerance=0.2),
    _norms("torch.ao fuse_modules", "quantised", quantised.fused_for_quantisation),
    Host("torchao int8, weights only", "quantised", quantised.weight_only, needs=("torchao",), tolerance=0.2),
    Host("peft LoRA on top", "quantised", quantised.lora_unmerged, needs=("peft",)),
    Host("peft LoRA, merged and unloaded", "quantised", quantised.lora, needs=("peft",)),
    Host("peft LoRA first, then merged", "quantised", quantised.merged, quantised.with_lora, quantised.LORA, ("peft",)),
    _v5("YOLOv5 fuse, at convolutions", "yolo", yolo_v5.fused),
    _v5("YOLOv5 fuse, at C3", "yolo", yolo_v5.fused, placements=yolo_v5.CSP),
    _v5("YOLOv5 fuse, at norms", "yolo", yolo_v5.fused, placements=yolo_v5.NORM),
    _v5("YOLOv5 fuse by type(module)", "yolo", yolo_v5.fused_by_type),
    _v5("YOLOv5 fuse twice", "yolo", yolo_v5.fused_twice),
    _fused("YOLOv5 fused first", "yolo", copies.deepcopied),
    _fused("YOLOv5 fused first, then pickled", "yolo", copies.pickled),
    _yolo("ultralytics fuse, at convolutions", "yolo", yolo.fused, placements=yolo.CONV),
    _yolo("ultralytics fuse, at C2f", "yolo", yolo.fused, placements=yolo.C2F),
    _yolo("ultralytics fuse, YOLO11", "yolo", yolo.fused, build=yolo.newer, placements=yolo.C2F),
    _yolo("ultralytics AutoBackend", "yolo", yolo.backend, placements=yolo.CONV),
    _yolo("ultralytics predict", "yolo", yolo.predicted, placements=yolo.C2F),
    _yolo("ultralytics export to TorchScript, at convolutions", "yolo", yolo.torchscript, placements=yolo.CONV),
    _yolo("ultralytics export to TorchScript, at C2f", "yolo", yolo.torchscript, placements=yolo.C2F),
    _yolo("ultralytics export to ONNX, at C2f", "yolo", yolo.onnx, placements=yolo.C2F),
    _yolo("ultralytics checkpoint", "yolo", yolo.checkpoint, placements=yolo.C2F, tolerance=0.1),
    _yolo("ultralytics checkpoint, fused", "yolo", yolo.checkpoint_fused, placements=yolo.C2F),
    _yolo("ultralytics ModelEMA", "yolo", yolo.averaged, placements=yolo.C2F),
    _yolo("ultralytics train", "yolo", yolo.trained, placements=yolo.CONV),
    _lightning("Lightning fit", "trainers", trainers.lightning_fit),
    _lightning("Lightning sync_batchnorm", "trainers", trainers.lightning_sync_batchnorm, placements=NORMS),
    _lightning("Lightning load_from_checkpoint", "trainers", trainers.lightning_restored),
    _still("accelerate prepare, a step, unwrap_model", "trainers", trainers.accelerated),
    _still("accelerate save_model, load_checkpoint", "trainers", trainers.accelerate_saved),
    _hf("transformers Trainer", "trainers", trainers.hf_trained),
    _hf("transformers save_pretrained, from_pretrained", "trainers", trainers.hf_saved),
    _hf("transformers Trainer.save_model, AutoModel", "trainers", trainers.hf_trainer_saved),
    _hf("transformers, the backbone taken out", "trainers", trainers.hf_backbone),
)
